/** `creditsd/server`: read a user's total with an API key, for servers: server rendering, server actions. */

import { CreditsError, malformed, refusal } from "./errors.ts";
import type { Fetch } from "./http.ts";
import { within } from "./timing.ts";
import { isTotal, type Total } from "./total.ts";

export type { Total } from "./total.ts";
export { CreditsError } from "./errors.ts";

export interface ReadCreditsOptions {
  /** Where creditsd answers, such as http://creditsd.internal:8321. */
  readonly url: string | undefined;
  /** One of `http.api_keys`. It reads everyone: keep it on the server. */
  readonly apiKey: string | undefined;
  readonly userId: string;
  /** Wait, as long as the server does, for a total of this version or newer. */
  readonly minVersion?: number | undefined;
  /** How long it may take. Default 5 000. */
  readonly timeoutMs?: number | undefined;
  readonly fetch?: Fetch | undefined;
}

/** Read the current total of any user. Raises CreditsError. */
export async function readCredits({ url, apiKey, userId, minVersion, timeoutMs = 5_000, fetch: given }: ReadCreditsOptions): Promise<Total> {
  if (!url || !apiKey || !userId) throw new TypeError(`creditsd: \`${!url ? "url" : !apiKey ? "apiKey" : "userId"}\` is missing`);
  const wanted = minVersion === undefined ? "" : `?min_version=${minVersion}`;
  const address = `${url.replace(/\/+$/, "")}/v1/users/${encodeURIComponent(userId)}/credits${wanted}`;
  return within(timeoutMs, new AbortController().signal, async (signal) => {
    // Next keeps what it fetched unless it is told not to.
    const response = await (given ?? fetch)(address, { headers: { "X-API-Key": apiKey }, cache: "no-store", signal }).catch((cause: unknown) => {
      throw new CreditsError("network", "the server cannot be reached", { cause });
    });
    if (!response.ok) throw await refusal(response);
    const { data } = (await response.json().catch(() => null) ?? {}) as { data?: unknown };
    if (!isTotal(data)) throw malformed("total");
    return data;
  });
}
