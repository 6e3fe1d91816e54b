/** What a client asks of a server, whatever the wire between them: read the total, and listen to it. */

import type { End } from "./retry.ts";
import type { Total } from "./total.ts";

export interface Ask {
  readonly token: string;
  /** The token's `sub`; empty where it has none. */
  readonly user: string;
  readonly signal: AbortSignal;
}

export interface Reading extends Ask {
  /** Wait, as long as the server does, for a total of this version or newer. A server that cannot gives what it has. */
  readonly minVersion?: number | undefined;
}

export interface Listening extends Ask {
  /** The version we have: it need not be sent again. */
  readonly since: number | undefined;
  /** Something arrived. A stream that was opened and says nothing has not begun. */
  heard(): void;
  total(total: Total): void;
  /** The server's wish for the first wait before a reconnect. */
  retry(ms: number): void;
}

/** One step of a total: what it became, and when. */
export type Step = Total & { readonly cause?: string };

export interface HistoryAsk extends Ask {
  readonly limit: number;
  /** Where the page before ended. */
  readonly cursor: string | undefined;
}

export interface HistoryPage {
  /** The newest first. */
  readonly steps: readonly Step[];
  /** Where the next page begins; null after the last. */
  readonly cursor: string | null;
}

export interface Transport {
  /** Names the server in what is kept and shared on this side. */
  readonly name: string;
  read(ask: Reading): Promise<Total>;
  /** Listen until the stream ends, and say why it did. Raises CreditsError where it never began. */
  listen(on: Listening): Promise<End>;
  /** The steps that are kept; null where the server keeps none. */
  history?(ask: HistoryAsk): Promise<HistoryPage | null>;
  /** Get what is below the total's address; for transports over HTTP. */
  get?(below: string, ask: Ask): Promise<unknown>;
  /** Whether it watches its connection and renews its token by itself: silence is no sign then, and no second stream is opened. */
  readonly selfKeeping?: boolean;
}
