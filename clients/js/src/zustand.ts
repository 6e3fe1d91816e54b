/** `creditsd/zustand`: a store of the usual shape, kept current by a client. */

import { create, type StoreApi, type UseBoundStore } from "zustand";

import { shownError } from "./errors.ts";
import { onlyClient } from "./only.ts";
import type { CreditsClient } from "./options.ts";
import type { Snapshot } from "./state.ts";
import type { Total } from "./total.ts";

export interface CreditsState {
  /** The total, or null before there is one. */
  readonly getCreatorCredits: Total | null;
  readonly loadingGetCreatorCredits: boolean;
  readonly errorGetCreatorCredits: string | null;
  /** Read the total unless there is one. Never rejects. */
  readonly fetchCreatorCredits: () => Promise<void>;
  /** Read the total. Never rejects. */
  readonly refreshCreatorCredits: () => Promise<void>;
  /** Keep a newer total; show anything else as a change that the next newer total replaces. */
  readonly setCredits: (credits: Total) => void;
}

export interface CreditsStoreOptions {
  /** Whether to hold the connection while a component uses the store. Default true. */
  readonly enableRealtime?: boolean;
}

/** Make a store over a client, or over the one that the application made. Nothing is opened before a component, or anybody else, subscribes to it. */
export function createCreditsStore(client: CreditsClient = onlyClient(), { enableRealtime: live = true }: CreditsStoreOptions = {}): UseBoundStore<StoreApi<CreditsState>> {
  return create<CreditsState>()((set, _get, store) => {
    let asking = 0;
    /** What went wrong with what a component asked for; a line that is lost for a while is not that. */
    let failed: string | null = null;
    const show = (snapshot: Snapshot): void => set({
      getCreatorCredits: snapshot.total,
      loadingGetCreatorCredits: asking > 0 || (snapshot.status === "connecting" && !snapshot.total && !snapshot.error),
      errorGetCreatorCredits: shownError(snapshot)?.message ?? (snapshot.error && failed),
    });
    const ask = async (): Promise<void> => {
      asking++;
      show(client.snapshot());
      failed = await client.refetch().then(() => null, (error: Error) => error.message);
      asking--;
      show(client.snapshot());
    };

    const { subscribe } = store;
    let users = 0;
    let release = (): void => {};
    store.subscribe = (listener) => {
      if (++users === 1) {
        release = client.subscribe(show, { live });
        show(client.snapshot());
      }
      const leave = subscribe(listener);
      let here = true;
      return () => {
        leave();
        if (here && --users === 0) release();
        here = false;
      };
    };

    return {
      getCreatorCredits: null,
      loadingGetCreatorCredits: false,
      errorGetCreatorCredits: null,
      fetchCreatorCredits: async () => {
        if (client.total) show(client.snapshot());
        else await ask();
      },
      refreshCreatorCredits: ask,
      setCredits: (credits) => {
        const version = client.confirmed?.version ?? -1;
        if (credits.version > version) client.accept(credits);
        else client.optimistic((total) => ({ ...total, ...credits, version: total.version }), { until: version + 1 });
        show(client.snapshot());
      },
    };
  });
}
