/** The provider: one client, and one subscription, for everything below it. */

import { createContext, createElement, type ReactElement, type ReactNode, useContext, useEffect, useInsertionEffect, useMemo, useRef } from "react";

import { unlistedClient } from "./client.ts";
import { onlyClient } from "./only.ts";
import type { CreditsClient, CreditsClientOptions } from "./options.ts";
import { EMPTY, type Snapshot } from "./state.ts";
import type { Total } from "./total.ts";

/** A client, and what it shows before the page has come to life. */
export interface Provided {
  readonly client: CreditsClient;
  readonly first: Snapshot;
}

const Context = createContext<Provided | null>(null);

export type RealtimeCreditsProviderProps = {
  readonly children?: ReactNode;
  /** Whether to hold the connection while this is mounted. Default true. */
  readonly enableRealtime?: boolean | undefined;
  /** What the server rendered with, so that the number is in its HTML. */
  readonly initialTotal?: Total | null | undefined;
} & (
  | { readonly client: CreditsClient }
  /** Makes a client of its own. Give the provider the user's id as `key`, and every user gets a new one. */
  | (CreditsClientOptions & { readonly client?: undefined })
  /** Takes the one that the application made. */
  | { readonly client?: undefined; readonly getToken?: undefined }
);

/** Hold one subscription for everything below, for as long as it is mounted. */
export function RealtimeCreditsProvider(props: RealtimeCreditsProviderProps): ReactElement {
  const { client: given, enableRealtime = true, initialTotal, children } = props;
  const latest = useRef(props);
  const { url, transport, getToken } = props as Partial<CreditsClientOptions>;
  const makes = !given && getToken !== undefined;
  const client = useMemo(() => {
    if (!makes) return given ?? onlyClient();
    const options = latest.current as CreditsClientOptions;
    // The newest getToken, because components write it inline.
    return unlistedClient({ ...options, url, transport, getToken: (ask) => (latest.current as CreditsClientOptions).getToken(ask) });
  }, [given, makes, url, transport]);
  const first = useRef(initialTotal);
  const provided = useMemo(() => ({ client, first: first.current ? { ...EMPTY, total: first.current, confirmed: first.current } : EMPTY }), [client]);
  // Before any effect, because those of the children come first and may want a token, or the total.
  useInsertionEffect(() => {
    latest.current = props;
    if (initialTotal) client.accept(initialTotal);
  });
  useEffect(() => (enableRealtime ? client.subscribe(() => {}) : undefined), [client, enableRealtime]);
  return createElement(Context.Provider, { value: provided }, children);
}

/** Find the client: the one given, or the nearest provider's, or the one that the application made. */
export function useProvided(given?: CreditsClient): Provided {
  const provided = useContext(Context);
  const client = given ?? provided?.client ?? onlyClient();
  const first = provided?.client === client ? provided.first : EMPTY;
  return useMemo(() => ({ client, first }), [client, first]);
}

/**
 * Return the client, to call `optimistic`, `restart` or `signOut` of. It is the same object for ever, so reading `status` or `total` from it
 * renders nothing anew when they change: take those from `useRealtimeCredits`.
 */
export function useCreditsClient(): CreditsClient {
  return useProvided().client;
}
