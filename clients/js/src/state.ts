/** What listeners see: the newest total, changes not yet confirmed on top of it, and how the line stands. */

import type { CreditsError } from "./errors.ts";
import type { Total } from "./total.ts";

export type Status =
  /** Nobody is subscribed. */
  | "idle"
  | "connecting"
  /** Every change arrives as it happens. */
  | "live"
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
}

export type Listener = (snapshot: Snapshot) => void;
export type Change = number | ((total: Total) => Total);

/** Say what an error means for the line: without a network everything fails, `getToken` too. */
export function standing(error: CreditsError): Status {
  return error.kind === "network" || globalThis.navigator?.onLine === false ? "offline" : "error";
}

interface Pending {
  readonly apply: (total: Total) => Total;
  readonly timer: ReturnType<typeof setTimeout>;
}

export const EMPTY: Snapshot = Object.freeze({ total: null, status: "idle", error: null, pending: false });

export class State {
  readonly listeners = new Set<Listener>();
  snapshot = EMPTY;
  /** The newest total that came from the server. */
  truth: Total | null = null;
  #changes: readonly Pending[] = [];

  /** Keep a total unless it is older than ours, or ours; changes that were waiting yield to it. */
  accept(total: Total): boolean {
    if (this.truth?.user_id === total.user_id && total.version <= this.truth.version) return false;
    this.#replace(total);
    return true;
  }

  /** Forget the total: it was somebody else's. */
  forget(): void {
    if (this.truth) this.#replace(null);
  }

  /** Show a change before it is true, for so long at most. Returns a function that takes it back. */
  change(change: Change, forMs: number): () => void {
    if (!this.truth) return () => {};
    const undo = (): void => {
      clearTimeout(pending.timer);
      if (!this.#changes.includes(pending)) return;
      this.#changes = this.#changes.filter((other) => other !== pending);
      this.#tell();
    };
    const apply = typeof change === "number" ? (total: Total) => ({ ...total, credits: total.credits + change }) : change;
    const pending: Pending = { apply, timer: setTimeout(undo, forMs) };
    this.#changes = [...this.#changes, pending];
    this.#tell();
    return undo;
  }

  /** Say how the line stands. The same trouble met again is no news. */
  stand(status: Status, met: CreditsError | null = null): void {
    const known = this.snapshot.error;
    const error = met?.kind === known?.kind && met?.message === known?.message ? known : met;
    if (status !== this.snapshot.status || error !== this.snapshot.error) this.#tell({ status, error });
  }

  #replace(total: Total | null): void {
    for (const { timer } of this.#changes) clearTimeout(timer);
    this.#changes = [];
    this.truth = total;
    this.#tell();
  }

  #tell(stand: Partial<Snapshot> = {}): void {
    const changes = this.#changes;
    const total = this.truth && changes.reduce((sum, { apply }) => apply(sum), this.truth);
    const snapshot: Snapshot = (this.snapshot = { ...this.snapshot, ...stand, total, pending: changes.length > 0 });
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
