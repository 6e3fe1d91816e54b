/** What a client is made with, and what it can do. */

import type { Fetch } from "./http.ts";
import type { Shelf } from "./memory.ts";
import type { Change, Until } from "./pending.ts";
import type { Listener, Snapshot } from "./state.ts";
import type { Total } from "./total.ts";
import type { Ask, Transport } from "./transport.ts";

export type Token = string | null | undefined;

/** Give the JWT of whoever is signed in, or null. `fresh` asks for one newer than the last, which was refused or is about to end. */
export type GetToken = (ask: { readonly fresh: boolean }) => Token | Promise<Token>;

export interface CreditsClientOptions {
  /** Where creditsd answers, such as https://credits.example.com; empty for the page's own origin. */
  readonly url?: string | undefined;
  /** Another way to the totals than creditsd's HTTP, instead of `url`. */
  readonly transport?: Transport | undefined;
  readonly getToken: GetToken;
  /** What the page was rendered with: shown until a newer total comes, or somebody else turns out to be signed in. */
  readonly initialTotal?: Total | null | undefined;
  /** Instead of the runtime's own. */
  readonly fetch?: Fetch | undefined;
  /** Where the last known total is kept; local storage unless you say another place, or null for none. It may answer with promises. */
  readonly storage?: Shelf | null | undefined;
  /** Whether all tabs of a user share one connection, where the browser can. Default true. */
  readonly shareTabs?: boolean | undefined;
  /** Whether to listen to a stream; otherwise the total is read every `pollMs`. Default true. */
  readonly stream?: boolean | undefined;
  /** After how much silence a connection counts as dead. The server sends a heartbeat every 15 s. Default 40 000. */
  readonly silenceMs?: number | undefined;
  /** How long a stream may say nothing at first before the total is read instead. Default 1 500. */
  readonly patienceMs?: number | undefined;
  /** How often the total is read where no stream comes through and somebody may be looking. Default 3 000. */
  readonly pollMs?: number | undefined;
  /** How long a request may take, and `getToken` twice as long. Default 10 000. */
  readonly timeoutMs?: number | undefined;
  /** The longest wait between two attempts. Default 30 000. */
  readonly maxRetryMs?: number | undefined;
  /** How long an optimistic change is shown when nothing confirms it. Default 10 000. */
  readonly optimisticMs?: number | undefined;
}

export interface OptimisticOptions {
  /**
   * When it is true: the version from which on the total contains it; or a promise of your write, whose answer may be a total or have a
   * `version`, and whose failure takes the change back. Without, a change of the total by the same amount counts as the confirmation.
   */
  readonly until?: Until;
}

export interface CreditsClient extends Snapshot {
  /** The state as one value, the same object until something changes. */
  snapshot(): Snapshot;
  /** Hear of every change; hold the connection for as long as anybody is subscribed, unless `live` is false. */
  subscribe(listener: Listener, options?: { readonly live?: boolean }): () => void;
  /** Read the total now. Raises CreditsError, which is also in `error`. */
  refetch(): Promise<Total>;
  /** Show a change at once: credits to add, or a function of the total. It stays on top of newer totals until it is in them. */
  optimistic(change: Change, options?: OptimisticOptions): () => void;
  /** Keep a total that came another way, such as in the answer of your own API, if it is newer. */
  accept(total: Total): void;
  /** Ask the server something else as whoever is signed in. Raises CreditsError. */
  ask<T>(use: (ask: Ask) => Promise<T>): Promise<T>;
  readonly transport: Transport;
  /** Somebody signed in, or the token changed: ask `getToken` anew. The total stays if it is the same user. */
  restart(): void;
  /** The user signs out: forget the total, in all tabs and in storage, and ask for nothing until `restart`, or somebody else. */
  signOut(): void;
  /** End everything. A closed client stays closed. */
  close(): void;
}
