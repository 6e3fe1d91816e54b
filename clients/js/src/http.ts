/** creditsd's own HTTP: `GET /v1/me/credits`, and its stream of server-sent events. */

import { CreditsError, malformed, refusal } from "./errors.ts";
import { eventReader } from "./events.ts";
import type { End } from "./retry.ts";
import { aborted } from "./timing.ts";
import { isTotal } from "./total.ts";
import type { Ask, Listening, Transport } from "./transport.ts";

const EVENT_STREAM = "text/event-stream";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Speak to the daemon, or to `creditsd serve`, at this address. Raises TypeError for what is none. */
export function httpTransport(url: unknown, given?: Fetch): Transport {
  const name = address(url);
  const ask = async (below: string, { token, signal }: Ask, more?: Record<string, string>): Promise<Response> => {
    let response: Response;
    try {
      // The global one is found anew each time, because polyfills and monitoring replace it.
      response = await (given ?? fetch)(`${name}/v1/me/credits${below}`, {
        headers: { ...more, Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", signal,
      });
    } catch (cause) {
      throw new CreditsError("network", unreachable(), { cause });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  };
  const get = async (below: string, who: Ask): Promise<unknown> =>
    (await (await ask(below, who)).json().catch(() => null) as { data?: unknown } | null)?.data;
  return {
    name,
    get,
    read: async (who) => {
      const total = await get(who.minVersion ? `?min_version=${who.minVersion}` : "", who);
      if (!isTotal(total)) throw malformed("total");
      return total;
    },
    // Service workers let pass what asks for a stream.
    listen: (on) => listen(on, () => ask("/stream", on, { Accept: EVENT_STREAM, ...(on.since && { "Last-Event-ID": String(on.since) }) })),
  };
}

function address(url: unknown): string {
  if (typeof url !== "string") throw new TypeError("creditsd: `url` is missing");
  if (!/^(https?:\/)?\/|^$/i.test(url)) throw new TypeError(`creditsd: \`url\` has no scheme: ${url}`);
  return url.replace(/\/+$/, "");
}

/** A browser does not tell a page why it got no answer; that the browser itself refused is one of the reasons. */
function unreachable(): string {
  return `the server cannot be reached${globalThis.document && navigator.onLine ? ", or CORS or CSP forbids it" : ""}`;
}

async function listen(on: Listening, open: () => Promise<Response>): Promise<End> {
  let end: End | undefined;
  const feed = eventReader({
    retry: on.retry,
    event: (name, data) => {
      const value = JSON.parse(data) as unknown;
      if (name === "close") end ??= String((value as { reason?: unknown }).reason);
      else if (name === "message" && isTotal(value)) on.total(value);
    },
  });
  let opened = false;
  // Not every fetch heeds its signal.
  const over = aborted(on.signal);
  try {
    const response = await Promise.race([open(), over]);
    if (!response) return "lost";
    if (!response.headers.get("Content-Type")?.startsWith(EVENT_STREAM)) throw malformed("stream");
    opened = true;
    const reader = response.body?.getReader?.();
    if (!reader || !globalThis.TextDecoder) return "mute";
    const decoder = new TextDecoder();
    while (!end) {
      const piece = await Promise.race([reader.read(), over]);
      if (!piece || piece.done) break;
      on.heard();
      feed(decoder.decode(piece.value, { stream: true }));
    }
  } catch (error) {
    // What else fails after it opened is reading: a stream that broke off, as streams do, or that we ended.
    if (!on.signal.aborted && (!opened || error instanceof CreditsError)) throw error;
  }
  return end ?? "lost";
}
