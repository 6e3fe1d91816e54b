/** `creditsd/react`: the total as a hook, over one client for the whole application. */

import {
  createContext, createElement, type ReactElement, type ReactNode, useCallback, useContext, useEffect, useInsertionEffect, useMemo, useRef,
  useState, useSyncExternalStore,
} from "react";

import { createCreditsClient, type CreditsClient, type CreditsClientOptions } from "./client.ts";
import type { CreditsError } from "./errors.ts";
import { EMPTY, type Listener, type Snapshot } from "./state.ts";
import type { Total } from "./total.ts";

const ClientContext = createContext<CreditsClient | null>(null);
const NOTHING = (): Snapshot => EMPTY;

export type RealtimeCreditsProviderProps = { readonly children?: ReactNode; readonly enableRealtime?: boolean } & (
  | { readonly client: CreditsClient }
  /** Makes a client of its own. Give the provider the user's id as `key`, and every user gets a new one. */
  | (CreditsClientOptions & { readonly client?: undefined })
);

/** Hold one subscription for everything below, for as long as it is mounted. */
export function RealtimeCreditsProvider(props: RealtimeCreditsProviderProps): ReactElement {
  const { client: given, enableRealtime = true, children } = props;
  const latest = useRef(props);
  // Before any effect, because those of the children come first and may want a token.
  useInsertionEffect(() => {
    latest.current = props;
  });
  const url = given ? undefined : (props as CreditsClientOptions).url;
  const client = useMemo(() => {
    if (given) return given;
    const options = latest.current as CreditsClientOptions;
    // The newest getToken, because components write it inline.
    return createCreditsClient({ ...options, getToken: (ask) => (latest.current as CreditsClientOptions).getToken(ask) });
  }, [given, url]);
  useEffect(() => (enableRealtime ? client.subscribe(() => {}) : undefined), [client, enableRealtime]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** Return the client of the nearest provider: its `status`, `optimistic`, `restart`. */
export function useCreditsClient(): CreditsClient {
  const client = useContext(ClientContext);
  if (!client) throw new Error("there is no <RealtimeCreditsProvider> above this component, and no client was given");
  return client;
}

export interface RealtimeCreditsOptions {
  /** Whether to hear of changes as they happen; otherwise the total is read once. Default true. */
  readonly enableRealtime?: boolean;
  /** Called with every newer total, and the one before it. */
  readonly onCreditsUpdate?: (credits: Total, previous: Total | null) => void;
  readonly onError?: (error: CreditsError) => void;
  /** Instead of the provider's. */
  readonly client?: CreditsClient;
}

export interface RealtimeCredits {
  /** The whole total, optimistic changes included; the number is `credits.credits`. */
  readonly credits: Total | null;
  /** Whether there is neither a total nor an error yet. */
  readonly isLoading: boolean;
  readonly error: CreditsError | null;
  /** Read the total now. Never rejects: what goes wrong is in `error`. */
  readonly refetch: () => Promise<Total | null>;
  /** Whether changes arrive as they happen. */
  readonly isSubscribed: boolean;
}

/** Use the signed-in user's total. */
export function useRealtimeCredits(options: RealtimeCreditsOptions = {}): RealtimeCredits {
  const { enableRealtime: live = true, client: given } = options;
  const provided = useContext(ClientContext);
  const client = given ?? provided;
  if (!client) throw new Error("useRealtimeCredits needs a <RealtimeCreditsProvider> above it, or a client");
  const [asked, setAsked] = useState(false);
  const handlers = useRef(options);
  useInsertionEffect(() => {
    handlers.current = options;
  });

  const subscribe = useCallback((listener: Listener) => client.subscribe(listener, { live }), [client, live]);
  const { total, status, error } = useSyncExternalStore(subscribe, client.snapshot, NOTHING);
  const refetch = useCallback(() => client.refetch().catch(() => null), [client]);

  useEffect(() => {
    if (!live) void refetch().then(() => setAsked(true));
  }, [live, refetch]);

  useEffect(() => {
    let { total: last, error: known } = client.snapshot();
    let version = last?.version;
    return client.subscribe(({ total: now, pending, error: current }) => {
      if (current && current !== known) handlers.current.onError?.(current);
      known = current;
      if (!now || pending || (now.version === version && now.user_id === last?.user_id)) return;
      const previous = last?.user_id === now.user_id ? last : null;
      [last, version] = [now, now.version];
      handlers.current.onCreditsUpdate?.(now, previous);
    }, { live: false });
  }, [client]);

  const settled = status === "signed_out" || status === "closed" || (!live && asked);
  return { credits: total, isLoading: !total && !error && !settled, error, refetch, isSubscribed: live && status === "live" };
}
