/** A change that is shown before it is true, and how it is known when it is. */

import type { Total } from "./total.ts";

/** Credits to add, or a function of the total. */
export type Change = number | ((total: Total) => Total);

/**
 * When a change is in the total: from a version on; or as a promise says, which brings a total, `{ version }`, or anything else.
 * A promise that fails takes the change back.
 */
export type Until = number | PromiseLike<unknown> | undefined;

/** Told what a write answered, and the version in it. */
export type Written = (answer: unknown, version: number | undefined) => void;

/** For how many times its usual time a change waits for the answer of its own write. */
const PATIENCE = 6;

export class Pending {
  readonly apply: (total: Total) => Total;
  /** The version from which on it is in the total. */
  until: number | undefined;
  /** Whether a total moved as it would: it is taken to be in there until its own version is known. */
  met = false;
  readonly #forMs: number;
  readonly #changed: (over: boolean) => void;
  #answered = true;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(change: Change, forMs: number, changed: (over: boolean) => void) {
    this.apply = typeof change === "number" ? (total) => ({ ...total, credits: total.credits + change }) : change;
    this.#forMs = forMs;
    this.#changed = changed;
  }

  /** Wait until it is in the total, but not for ever; `written` is given what the promise brings. */
  wait(until: Until, written: Written): void {
    if (typeof until === "number") this.until = until;
    const promise = typeof until === "object" ? until : undefined;
    this.#limit(promise ? this.#forMs * PATIENCE : this.#forMs);
    if (!promise) return;
    this.#answered = false;
    promise.then((answer) => {
      this.#answered = true;
      this.until = versionOf(answer);
      if (this.until !== undefined) this.met = false;
      this.#limit(this.#forMs);
      this.#changed(false);
      written(answer, this.until);
    }, () => this.end());
  }

  /** Whether it is surely in this total. */
  isIn(total: Total): boolean {
    return this.until === undefined ? this.met && this.#answered : total.version >= this.until;
  }

  /** How many credits it adds to a total. */
  moves(total: Total): number {
    return this.apply(total).credits - total.credits;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#changed(true);
  }

  #limit(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(), ms);
  }
}

/** A bare number may be anything, such as the credits that are left. */
function versionOf(answer: unknown): number | undefined {
  const version = (answer as { version?: unknown } | null | undefined)?.version;
  return typeof version === "number" ? version : undefined;
}
