/** A real HTTP server that speaks the daemon's side of the wire, and says what it was asked. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import type { Total } from "../src/index.ts";

/** Make a token as a browser has one; only its payload matters here. */
export function tokenOf(user: string | undefined, serial = 1, exp?: number): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part({ sub: user, serial, exp })}.sig`;
}

function whose(request: IncomingMessage): { sub?: string; serial: number } {
  const token = request.headers.authorization!.replace("Bearer ", "");
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString());
}

export function total(user: string, version: number, credits: number): Total {
  return {
    user_id: user, version, updated_at: "2026-01-01T00:00:00Z", credits, membershipStatus: "active", planType: "subscription", canBuy: false,
    hasEverHadSubscription: true, message: `You have ${credits} credits.`, subscription_id: "sub_1", membership: "Pro", expires_at: null,
  };
}

export class Counterpart {
  readonly totals = new Map<string, Total>();
  readonly streams = new Map<ServerResponse, string>();
  readonly asked: { path: string; user: string; serial: number; since: string | undefined }[] = [];
  /** Answers to give instead of the usual ones, the first first. */
  readonly refusals: { status: number; body?: string; headers?: Record<string, string> }[] = [];
  /** What becomes of the stream: it speaks, or a proxy passes on its head alone, or nothing at all. */
  stream: "speaks" | "silent" | "withheld" = "speaks";
  /** How many reads are never answered. */
  hangs = 0;
  /** The steps that are kept, the newest first, for whoever asks. */
  history: Total[] | undefined;
  /** A path that answers 500. */
  broken = "";
  /** Tokens below this serial are refused. */
  oldestSerial = 0;
  url = "";
  readonly #server = createServer((request, response) => this.#answer(request, response));
  #port = 0;

  async open(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    this.url = `http://127.0.0.1:${this.#port}`;
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    this.streams.clear();
    await closed;
  }

  /** Go away; `open` comes back on the same port. */
  async vanish(): Promise<void> {
    await this[Symbol.asyncDispose]();
  }

  /** Change a user's total, and tell whoever listens. */
  set(user: string, version: number, credits: number): void {
    this.totals.set(user, total(user, version, credits));
    for (const [response, listener] of this.streams) if (listener === user) this.#send(response, user);
  }

  /** Send something to every listener of a user. */
  say(user: string, text: string): void {
    for (const [response, listener] of this.streams) if (listener === user) response.write(text);
  }

  /** End every stream with a reason. */
  end(reason: string): void {
    for (const response of this.streams.keys()) response.end(`event: close\ndata: {"reason":"${reason}"}\n\n`);
  }

  count(path: string): number {
    return this.asked.filter((each) => each.path.split("?")[0] === path).length;
  }

  #send(response: ServerResponse, user: string): void {
    const now = this.totals.get(user)!;
    response.write(`id: ${now.version}\ndata: ${JSON.stringify(now)}\n\n`);
  }

  #page(response: ServerResponse, limit: number, from: number): void {
    if (!this.history) return json(response, 404, { success: false, error: "no history is kept" });
    const next = from + limit < this.history.length ? String(from + limit) : null;
    json(response, 200, { success: true, data: { steps: this.history.slice(from, from + limit), next } });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { sub: user = "somebody", serial } = whose(request);
    const since = request.headers["last-event-id"] as string | undefined;
    this.asked.push({ path: request.url!, user, serial, since });
    const refusal = serial < this.oldestSerial ? { status: 401, body: '{"success":false,"error":"the token has expired"}' } : this.refusals.shift();
    this.hangs = Math.max(this.hangs, 0);
    if (refusal) {
      response.writeHead(refusal.status, { "Content-Type": "application/json", ...("headers" in refusal ? refusal.headers : {}) });
      response.end(refusal.body ?? "");
      return;
    }
    const now = this.totals.get(user) ?? total(user, 0, 0);
    const { pathname, searchParams } = new URL(request.url!, this.url);
    if (pathname === this.broken) return json(response, 500, { success: false, error: "out of order" });
    if (pathname === "/v1/me/credits") return this.hangs-- > 0 ? undefined : json(response, 200, { success: true, data: now });
    if (pathname === "/v1/me/credits/history") return this.#page(response, Number(searchParams.get("limit")), Number(searchParams.get("cursor") ?? 0));
    if (this.stream === "withheld") return;
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.flushHeaders();
    if (this.stream === "silent") return;
    response.write("retry: 10\n\n: hello\n\n");
    this.streams.set(response, user);
    response.on("close", () => this.streams.delete(response));
    this.totals.set(user, now);
    if (!(Number(since ?? -1) >= now.version)) this.#send(response, user);
  }
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}
