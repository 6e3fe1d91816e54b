/** `creditsd/zustand`: a store of the usual shape, kept current by a client. */

import { create, type StoreApi, type UseBoundStore } from "zustand";

import type { CreditsClient } from "./client.ts";
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

/** Make a store over a client. Nothing is opened before a component, or anybody else, subscribes to it. */
export function createCreditsStore(client: CreditsClient, { enableRealtime: live = true }: CreditsStoreOptions = {}): UseBoundStore<StoreApi<CreditsState>> {
  return create<CreditsState>()((set, _get, store) => {
    let asking = 0;
    const show = ({ total, error, status }: Snapshot): void => set({
      getCreatorCredits: total,
      loadingGetCreatorCredits: asking > 0 || (status === "connecting" && !total && !error),
      errorGetCreatorCredits: error && error.message,
    });
    const ask = async (): Promise<void> => {
      asking++;
      show(client.snapshot());
      // What goes wrong is in the snapshot.
      await client.refetch().catch(() => {});
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
        if (credits.version > (client.total?.version ?? -1)) client.accept(credits);
        else client.optimistic((total) => ({ ...total, ...credits, version: total.version }));
        show(client.snapshot());
      },
    };
  });
}
