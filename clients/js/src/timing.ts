/** Signals and clocks: what may be given up, and when. */

import { CreditsError } from "./errors.ts";

/** The longest time a timer can be set to; for ever, as people count. */
export const FOREVER_MS = 2 ** 31 - 1;

/** Call a function when a signal is aborted, or now if it is. Returns a function that leaves it be. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act();
  signal.addEventListener("abort", act);
  return () => signal.removeEventListener("abort", act);
}

/** Make a controller that is aborted with another signal. */
export function child(signal: AbortSignal): AbortController {
  const controller = new AbortController();
  onAbort(controller.signal, onAbort(signal, () => controller.abort()));
  return controller;
}

/** Resolve when a signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => onAbort(signal, resolve));
}

/** Do something within a time, also where it does not heed its signal. Raises CreditsError when the time is over. */
export async function within<T>(ms: number, signal: AbortSignal, use: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ours = child(signal);
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await Promise.race([use(ours.signal), new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new CreditsError("network", `no answer within ${ms / 1000} s`)), ms);
    })]);
  } finally {
    clearTimeout(timer);
    ours.abort();
  }
}

/** Waits that may be ended early. */
export class Rests {
  readonly #open = new Set<AbortController>();

  /** Wait for a while, for the signal, or, unless it is firm, for a reason to try now. */
  async rest(ms: number, firm: boolean, signal: AbortSignal): Promise<void> {
    const ours = child(signal);
    const timer = setTimeout(() => ours.abort(), ms);
    if (!firm) this.#open.add(ours);
    await aborted(ours.signal);
    clearTimeout(timer);
    this.#open.delete(ours);
  }

  /** There is a reason. */
  end(): void {
    for (const rest of this.#open) rest.abort();
  }
}
