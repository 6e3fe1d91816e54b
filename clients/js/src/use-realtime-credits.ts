/** The hook of the usual shape: the total, whether it loads, what went wrong. */

import { useCallback, useEffect, useInsertionEffect, useRef, useState, useSyncExternalStore } from "react";

import { logger } from "./debug.ts";
import { type CreditsError, shownError } from "./errors.ts";
import type { CreditsClient } from "./options.ts";
import { useProvided } from "./provider.ts";
import type { Listener, Snapshot, Status } from "./state.ts";
import type { Total } from "./total.ts";

export interface RealtimeCreditsOptions {
  /** Whether to hear of changes as they happen; otherwise the total is read once. Default true. */
  readonly enableRealtime?: boolean | undefined;
  /** Called with every newer total, and the one before it. */
  readonly onCreditsUpdate?: ((credits: Total, previous: Total | null) => void) | undefined;
  /** Called with what comes to stand in `error`, and with all that is known of it. */
  readonly onError?: ((error: string, failure: CreditsError) => void) | undefined;
  /** Whether to say on the console how the line stands and what comes. Default false. */
  readonly debug?: boolean | undefined;
  /** Instead of the provider's. */
  readonly client?: CreditsClient | undefined;
}

export interface RealtimeCredits extends Pick<Snapshot, "pending" | "previous" | "lastSyncedAt" | "tabs" | "leading"> {
  /** The whole total, optimistic changes included; the number is `credits.credits`. */
  readonly credits: Total | null;
  /** Whether there is neither a total nor an error yet. */
  readonly isLoading: boolean;
  /**
   * What to tell a person: why there is no total, that the server refuses, or why `refetch` failed. With a total at hand a line that is lost
   * for a while is no error: `isSubscribed` is false then.
   */
  readonly error: string | null;
  /** Whatever goes wrong, with its kind. */
  readonly failure: CreditsError | null;
  /** Read the total now. Never rejects: what goes wrong is in `error`. */
  readonly refetch: () => Promise<Total | null>;
  /** Whether changes arrive as they happen. */
  readonly isSubscribed: boolean;
  readonly status: Status;
}

/** Use the signed-in user's total. */
export function useRealtimeCredits(options: RealtimeCreditsOptions = {}): RealtimeCredits {
  const { enableRealtime: live = true, debug = false } = options;
  const { client, first } = useProvided(options.client);
  const [asked, setAsked] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const subscribe = useCallback((listener: Listener) => client.subscribe(listener, { live }), [client, live]);
  const snapshot = useSyncExternalStore(subscribe, client.snapshot, () => first);
  const refetch = useCallback(async () => {
    try {
      return await client.refetch();
    } catch (error) {
      setFailed((error as CreditsError).message);
      return null;
    }
  }, [client]);
  useEffect(() => {
    if (!live) void refetch().then(() => setAsked(true));
  }, [live, refetch]);
  useEffect(() => (debug ? client.subscribe(logger(client.snapshot()), { live: false }) : undefined), [client, debug]);

  const { total: credits, status, error: failure, pending, previous, lastSyncedAt, tabs, leading } = snapshot;
  const error = shownError(snapshot)?.message ?? (failure?.message === failed ? failed : null);
  useHandlers(client, options, error);
  const settled = status === "signed_out" || status === "closed" || (!live && asked);
  return {
    credits, error, failure, refetch, status, pending, previous, lastSyncedAt, tabs, leading,
    isLoading: !credits && !failure && !settled,
    isSubscribed: live && status === "live",
  };
}

/** Call the newest handlers with what happens after the component was mounted. */
function useHandlers(client: CreditsClient, options: RealtimeCreditsOptions, error: string | null): void {
  const handlers = useRef(options);
  useInsertionEffect(() => {
    handlers.current = options;
  });
  useEffect(() => {
    const failure = client.snapshot().error;
    if (error && failure) handlers.current.onError?.(error, failure);
  }, [client, error]);
  useEffect(() => {
    let { confirmed: last } = client.snapshot();
    return client.subscribe(({ confirmed: now, previous }) => {
      if (now && now !== last) handlers.current.onCreditsUpdate?.(now, previous);
      last = now;
    }, { live: false });
  }, [client]);
}
