/** What the leader does: hold the connection, again and again. */

import { CreditsError } from "./errors.ts";
import { afterEnd, afterError, type End, type Next } from "./retry.ts";
import { listen } from "./server.ts";
import { standing, type Status } from "./state.ts";
import type { Total } from "./total.ts";

export interface Leading {
  readonly url: string;
  readonly silenceMs: number;
  readonly maxRetryMs: number;
  /** The token of the user this line is for; null when somebody else, or nobody, is signed in now. */
  token(fresh: boolean): Promise<string | null>;
  since(): number | undefined;
  total(total: Total): void;
  stand(status: Status, error?: CreditsError): void;
  controls(endIfSilentFor: (ms: number, end: End) => void): void;
  /** Wait. A firm wait is not cut short by somebody who looks at the tab. */
  rest(ms: number, firm: boolean): Promise<void>;
}

/** Hold the connection until the signal, or until its user is no longer the one signed in. */
export async function lead(on: Leading, signal: AbortSignal): Promise<void> {
  let next: Next = { failures: 0, fresh: false, waitMs: 0, firm: false };
  let stepMs = 1000;
  on.stand("connecting");
  while (!signal.aborted) {
    try {
      const token = await on.token(next.fresh);
      if (signal.aborted || token === null) return;
      let since = Date.now();
      const end = await listen({
        ...on,
        token,
        signal,
        since: on.since(),
        retry: (ms) => (stepMs = ms),
        open: () => {
          since = Date.now();
          on.stand("live");
        },
      });
      if (signal.aborted) return;
      if (end === "replaced") on.stand("error", new CreditsError("busy", "this user has as many connections elsewhere as are allowed"));
      else on.stand(end === "offline" ? "offline" : "connecting");
      next = afterEnd(end, next, Date.now() - since, stepMs, on.maxRetryMs);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof CreditsError)) throw error;
      next = afterError(error, next, stepMs, on.maxRetryMs);
      // The first refused token says only that it is time for a new one.
      if (next.waitMs > 0) on.stand(standing(error), error);
    }
    if (next.waitMs > 0) await on.rest(next.waitMs, next.firm);
  }
}
