/** What a token says of itself. Nothing is proven by that: it names what is kept and shared on this side, no more. */

import { FOREVER_MS } from "./timing.ts";

interface Claims {
  readonly sub?: unknown;
  readonly exp?: unknown;
}

function claims(token: string): Claims {
  try {
    return JSON.parse(atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))) as Claims;
  } catch {
    return {};
  }
}

/** Read whose token it is; empty where it does not say. */
export function subject(token: string): string {
  const { sub } = claims(token);
  return typeof sub === "string" ? sub : "";
}

/** Tell in how many milliseconds to ask for the next token, so that it is here before this one ends. */
export function renewalMs(token: string): number {
  const left = Number(claims(token).exp) * 1000 - Date.now();
  // One that ended before it was given tells that a clock is wrong, here or there.
  return left > 0 ? Math.min(left - Math.min(30_000, left / 4), FOREVER_MS) : FOREVER_MS;
}
