/** What a client is made of, for those of its parts that need the others. */

import type { CreditsError } from "./errors.ts";
import type { CreditsClient, CreditsClientOptions } from "./options.ts";
import type { State, Status } from "./state.ts";
import type { Rests } from "./timing.ts";
import type { Total } from "./total.ts";

const DEFAULTS = { silenceMs: 40_000, patienceMs: 1_500, pollMs: 3_000, timeoutMs: 10_000, maxRetryMs: 30_000, optimisticMs: 10_000, stream: true, shareTabs: true };

export type Settings = CreditsClientOptions & typeof DEFAULTS;

/** Fill in what was not said. */
export function withDefaults(options: CreditsClientOptions): Settings {
  return { ...DEFAULTS, ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) } as Settings;
}

export interface Parts extends Pick<CreditsClient, "ask" | "transport"> {
  readonly settings: Settings;
  readonly state: State;
  readonly rests: Rests;
  /** Aborted when the client is closed. */
  readonly ended: AbortController;
  /** Keep a total that came to this tab, and tell the others. */
  readonly take: (total: Total) => void;
  /** Say how the line stands, here and to the others. */
  readonly stand: (status: Status, error?: CreditsError) => void;
  /** The session of whoever was signed in is over. */
  readonly over: () => void;
}
