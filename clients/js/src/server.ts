/** The two requests there are: read the total, and listen to it. */

import { CreditsError, refusal } from "./errors.ts";
import { eventReader } from "./events.ts";
import type { End } from "./retry.ts";
import { isTotal, type Total } from "./total.ts";

async function ask(url: string, token: string, headers: Record<string, string>, signal: AbortSignal | null): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, {
      headers: { ...headers, Authorization: `Bearer ${token}` },
      cache: "no-store",
      credentials: "omit",
      signal,
    });
  } catch (cause) {
    throw new CreditsError("network", "the server cannot be reached", { cause });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Read the current total. */
export async function read(url: string, token: string): Promise<Total> {
  const response = await ask(`${url}/v1/me/credits`, token, {}, null);
  const body = await response.json().catch(() => null) as { data?: unknown } | null;
  if (!isTotal(body?.data)) throw new CreditsError("malformed", "the answer is not a total");
  return body.data;
}

export interface Listening {
  readonly url: string;
  readonly token: string;
  /** The version we have: it need not be sent again. */
  readonly since: number | undefined;
  /** How long the server may be silent; it sends a heartbeat every 15 s. */
  readonly silenceMs: number;
  readonly signal: AbortSignal;
  open(): void;
  total(total: Total): void;
  retry(ms: number): void;
  /** Called once with a function that ends the stream if it has been silent for longer than this. */
  controls(endIfSilentFor: (ms: number, end: End) => void): void;
}

/** Listen until the stream ends, and say why it did. Raises CreditsError where it never began. */
export async function listen(on: Listening): Promise<End> {
  const ours = new AbortController();
  const abort = (): void => ours.abort();
  on.signal.addEventListener("abort", abort);
  // The clock on the wall, because after a sleep that one knows how long it was.
  let heard = Date.now();
  let end: End | undefined;
  const endIfSilentFor = (ms: number, why: End): void => {
    if (Date.now() - heard < ms) return;
    end ??= why;
    abort();
  };
  on.controls(endIfSilentFor);
  const watch = setInterval(endIfSilentFor, on.silenceMs / 4, on.silenceMs, "silent");

  const feed = eventReader({
    retry: on.retry,
    event: (name, data) => {
      const value = JSON.parse(data) as unknown;
      if (name === "close") end ??= String((value as { reason?: unknown }).reason);
      else if (name === "message" && isTotal(value)) on.total(value);
    },
  });
  let opened = false;
  try {
    const since: Record<string, string> = on.since ? { "Last-Event-ID": String(on.since) } : {};
    const response = await ask(`${on.url}/v1/me/credits/stream`, on.token, { Accept: "text/event-stream", ...since }, ours.signal);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw new CreditsError("malformed", "the answer is not a stream");
    }
    opened = true;
    on.open();
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || end || ours.signal.aborted) break;
      heard = Date.now();
      feed(decoder.decode(value, { stream: true }));
      if (end) break;
    }
  } catch (error) {
    if (on.signal.aborted) return "lost";
    if (error instanceof SyntaxError) throw new CreditsError("malformed", "the stream sent no JSON", { cause: error });
    // What else fails after it opened is reading: a stream that broke off, as streams do, or that we ended.
    if (!opened || (error instanceof CreditsError && !end)) throw error;
  } finally {
    clearInterval(watch);
    on.signal.removeEventListener("abort", abort);
    abort();
  }
  return end ?? "lost";
}
