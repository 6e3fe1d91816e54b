/** What listeners see: the newest total, changes not yet confirmed on top of it, and how the line stands. */

import type { CreditsError } from "./errors.ts";
import { type Change, isIn, moves, type Pending, type Until, versionOf, type Written } from "./pending.ts";
import type { Total } from "./total.ts";

export type Status =
  /** Nobody is subscribed. */
  | "idle"
  | "connecting"
  /** Every change arrives as it happens. */
  | "live"
  /** No stream comes through, so the total is read every few seconds. */
  | "polling"
  /** The network or the server is away; `total` is the last one known. */
  | "offline"
  /** The server, or `getToken`, refuses; `error` says why. It is tried again all the same. */
  | "error"
  /** `getToken` gave nothing. */
  | "signed_out"
  | "closed";

/** One moment of a client. The same object until something changes. */
export interface Snapshot {
  readonly total: Total | null;
  readonly status: Status;
  readonly error: CreditsError | null;
  /** Whether `total` contains a change that the server has not confirmed. */
  readonly pending: boolean;
  /** The newest total that the server told: `total` without what is pending. */
  readonly confirmed: Total | null;
  /** The one before `confirmed`; null before there were two. */
  readonly previous: Total | null;
  /** When the server last said what `total` is, in milliseconds since 1970; null: never. */
  readonly lastSyncedAt: number | null;
  /** How many tabs share the connection, this one among them. */
  readonly tabs: number;
  /** Whether this tab is the one that holds it. */
  readonly leading: boolean;
}

export type Listener = (snapshot: Snapshot) => void;

/** Say what an error means for the line: without a network everything fails, `getToken` too. */
export function standing(error: CreditsError): Status {
  return error.kind === "network" || globalThis.navigator?.onLine === false ? "offline" : "error";
}

/** For how many times its usual time a change waits for the answer of its own write. */
const PATIENCE = 6;

export const EMPTY: Snapshot = {
  total: null, status: "idle", error: null, pending: false, confirmed: null, previous: null, lastSyncedAt: null, tabs: 1, leading: false,
};

export class State {
  readonly listeners = new Set<Listener>();
  current = EMPTY;
  /** The newest total that came from the server. */
  truth: Total | null = null;
  #changes: readonly Pending[] = [];

  /** Keep a total unless it is older than ours; changes that are not in it yet stay on top of it. False where it is no news. */
  accept(total: Total, at = Date.now()): boolean {
    const known = this.truth?.user_id === total.user_id ? this.truth : null;
    if (known && total.version <= known.version) {
      if (total.version === known.version) this.note({ lastSyncedAt: at });
      return false;
    }
    if (known) this.#settle(known, total);
    else this.#keep(() => false);
    this.truth = total;
    this.#tell({ previous: known, lastSyncedAt: at });
    return true;
  }

  /** Forget the total: it was somebody else's. */
  forget(): void {
    if (!this.truth) return;
    this.#keep(() => false);
    this.truth = null;
    this.#tell({ previous: null, lastSyncedAt: null });
  }

  /** Show a change before it is true. Returns a function that takes it back. */
  change(change: Change, until: Until, forMs: number, written: Written): () => void {
    if (!this.truth) return () => {};
    const promise = typeof until === "object" && until;
    const pending: Pending = {
      apply: typeof change === "number" ? (total) => ({ ...total, credits: total.credits + change }) : change,
      until: promise ? undefined : (until as number | undefined),
      met: false,
      answered: !promise,
      timer: undefined,
    };
    const limit = (ms: number): void => {
      clearTimeout(pending.timer);
      if (this.#changes.includes(pending)) pending.timer = setTimeout(end, ms);
    };
    const end = (): void => {
      if (!this.#changes.includes(pending)) return;
      this.#keep((other) => other !== pending);
      this.#tell();
    };
    this.#changes = [...this.#changes, pending];
    limit(promise ? forMs * PATIENCE : forMs);
    if (promise) {
      promise.then((answer) => {
        pending.answered = true;
        pending.until = versionOf(answer);
        if (pending.until !== undefined) pending.met = false;
        limit(forMs);
        this.#keep((other) => !this.truth || !isIn(other, this.truth));
        this.#tell();
        written(answer, pending.until);
      }, end);
    }
    this.#tell();
    return end;
  }

  /** Keep these changes alone, and stop the clocks of the others. */
  #keep(which: (change: Pending) => boolean): void {
    for (const change of this.#changes) if (!which(change)) clearTimeout(change.timer);
    this.#changes = this.#changes.filter(which);
  }

  /** Say how the line stands. The same trouble met again is no news. */
  stand(status: Status, met: CreditsError | null = null): void {
    const known = this.current.error;
    const error = met?.kind === known?.kind && met?.message === known?.message ? known : met;
    this.note({ status, error });
  }

  /** Say something else of the line, if it is news. */
  note(news: Partial<Snapshot>): void {
    if (Object.entries(news).some(([name, value]) => this.current[name as keyof Snapshot] !== value)) this.#tell(news);
  }

  /** Find out which of the changes that wait are in a newer total. */
  #settle(old: Total, now: Total): void {
    let moved = now.credits - old.credits;
    const guessed = this.#changes.filter((change) => {
      if (!isIn(change, now)) return !change.met && change.until === undefined;
      if (!change.met) moved -= moves(change, old);
      return false;
    });
    // Whose version is not known is recognised by its size, alone or with those before it.
    let sum = 0;
    const last = guessed.findIndex((change) => (sum += moves(change, old)) === moved);
    const alone = guessed.filter((change) => moves(change, old) === moved).slice(0, 1);
    if (moved) for (const change of last < 0 ? alone : guessed.slice(0, last + 1)) change.met = true;
    this.#keep((change) => !isIn(change, now));
  }

  #tell(news: Partial<Snapshot> = {}): void {
    const shown = this.#changes.filter((change) => !change.met);
    const total = this.truth && shown.reduce((sum, { apply }) => apply(sum), this.truth);
    const snapshot: Snapshot = (this.current = { ...this.current, ...news, total, confirmed: this.truth, pending: shown.length > 0 });
    for (const listener of [...this.listeners]) {
      try {
        listener(snapshot);
      } catch (error) {
        // A listener that fails must stop neither the others nor the line; the page's own handler hears of it.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
