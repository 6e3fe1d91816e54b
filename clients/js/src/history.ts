/** The steps of a total that a server keeps. */

import { type CreditsError, malformed } from "./errors.ts";
import type { CreditsClient } from "./options.ts";
import { isTotal } from "./total.ts";
import type { HistoryPage, Step, Transport } from "./transport.ts";

/** How many steps a server gives at once. */
const MOST = 100;

/** Those that said once that they keep none, and are not asked again. */
const without = new WeakSet<Transport>();

/** Read a page of the signed-in user's history, the newest first; null where none is kept. Raises CreditsError. */
export async function readHistory({ ask, transport }: CreditsClient, limit: number, cursor?: string): Promise<HistoryPage | null> {
  if (transport.history) return ask((who) => transport.history!({ ...who, limit, cursor }));
  if (!transport.get || without.has(transport)) return null;
  const more = cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`;
  try {
    return page(await ask((who) => transport.get!(`/history?limit=${Math.min(limit, MOST)}${more}`, who)));
  } catch (error) {
    if ((error as CreditsError).kind !== "not_configured") throw error;
    without.add(transport);
    return null;
  }
}

function page(body: unknown): HistoryPage {
  const { steps, next } = (Array.isArray(body) ? { steps: body } : body ?? {}) as { steps?: unknown; next?: unknown };
  if (!Array.isArray(steps)) throw malformed("history");
  return { steps: steps.filter(isTotal) as Step[], cursor: next == null ? null : String(next) };
}
