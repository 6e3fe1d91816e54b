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

export interface Pending {
  readonly apply: (total: Total) => Total;
  /** The version from which on it is in the total. */
  until: number | undefined;
  /** Whether a total moved as it would: it is taken to be in there until its own version is known. */
  met: boolean;
  /** Whether its own write has answered, if that is waited for. */
  answered: boolean;
  /** When to give it up. */
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** Whether it is surely in this total. */
export function isIn({ until, met, answered }: Pending, total: Total): boolean {
  return until === undefined ? met && answered : total.version >= until;
}

/** How many credits it adds to a total. */
export function moves({ apply }: Pending, total: Total): number {
  return apply(total).credits - total.credits;
}

/** A bare number may be anything, such as the credits that are left. */
export function versionOf(answer: unknown): number | undefined {
  const version = (answer as { version?: unknown } | null | undefined)?.version;
  return typeof version === "number" ? version : undefined;
}
