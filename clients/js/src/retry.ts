/** When to try again, and with which token. */

import type { CreditsError } from "./errors.ts";

/** Why a stream that had opened is over: the server's own reason, or what we noticed. */
export type End = "lost" | "silent" | "offline" | "mute" | (string & {});

export interface Attempt {
  /** Attempts in a row that led to no lasting stream. */
  readonly failures: number;
  /** Whether to ask for a token newer than the last one. */
  readonly fresh: boolean;
}

export interface Next extends Attempt {
  readonly waitMs: number;
  /** A wait the server asked for: a person who comes back to the tab does not cut it short. */
  readonly firm: boolean;
}

/** A stream that lasted this long was a success, however it ended. */
export const LASTING_MS = 5_000;

/** Wait anything up to a bound that doubles, so that those a server dropped together do not come back together. */
export function backOff(failures: number, stepMs: number, maxMs: number, random = Math.random): number {
  return 100 + random() * Math.min(maxMs, stepMs * 2 ** Math.min(failures, 20));
}

/** Decide what follows the end of a stream that had opened and lasted so long. */
export function afterEnd(end: End, last: Attempt, lastedMs: number, stepMs: number, maxMs: number): Next {
  const lasting = lastedMs >= LASTING_MS;
  const failures = lasting ? 1 : last.failures + 1;
  const fresh = end === "token_expired";
  // A new token that is at once called expired means a clock gone wrong, and asking again mends no clock.
  const now = fresh ? lasting || !last.fresh : end === "silent" && lasting;
  // Somebody else took our place. Taking theirs at once would go on for ever.
  const firm = end === "replaced";
  const waitMs = firm ? longWait(maxMs) : now ? 0 : backOff(failures - 1, stepMs, maxMs);
  return { failures, fresh, waitMs, firm };
}

/** Decide what follows an attempt that was refused or reached nobody. */
export function afterError(error: CreditsError, last: Attempt, stepMs: number, maxMs: number): Next {
  const failures = last.failures + 1;
  const fresh = error.kind === "unauthorized";
  if (fresh && !last.fresh) return { failures, fresh, waitMs: 0, firm: false };
  const settled = ["forbidden", "not_configured", "malformed"].includes(error.kind);
  const waitMs = settled ? longWait(maxMs) : backOff(failures - 1, stepMs, maxMs);
  return { failures, fresh, waitMs: waitMs + error.retryAfterMs, firm: error.retryAfterMs > 0 };
}

/** Decide when to try a stream again after so many that said nothing; meanwhile the total is read. */
export function afterMute(times: number, maxMs: number): Next {
  return { failures: 0, fresh: false, waitMs: longWait(maxMs * Math.min(times - 1, 4)), firm: true };
}

function longWait(maxMs: number): number {
  return maxMs / 2 + backOff(0, maxMs, maxMs / 2);
}
