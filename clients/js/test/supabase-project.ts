/**
 * A Supabase project as supabase-js meets it: PostgREST with row level security on `creditsd.balances` and `creditsd.history`, Auth's refresh of
 * a session, and Realtime's socket with private topics. It checks what those check: token, schema, topic. Nothing is kept for who is not joined.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { type WebSocket, WebSocketServer } from "ws";

import type { Total } from "../src/index.ts";
import { tokenOf } from "./counterpart.ts";

/** A row as the table has it: its own names, and no sentence for people. */
export interface Row {
  readonly user_id: string;
  readonly version: number;
  readonly credits: number;
  readonly [column: string]: unknown;
}

type Frame = [join: string | null, ref: string | null, topic: string, event: string, payload: Record<string, unknown>];

interface Member {
  readonly socket: WebSocket;
  readonly join: string | null;
  readonly user: string;
}

export class Project {
  readonly rows = new Map<string, Row>();
  history: Row[] = [];
  /** Topics, and who has joined them. */
  readonly members = new Map<string, Set<Member>>();
  readonly asked: string[] = [];
  /** Whether the schema is among the exposed ones. */
  exposed = true;
  url = "";
  readonly #http = createServer((request, response) => this.#answer(request, response));
  readonly #sockets = new WebSocketServer({ noServer: true });
  #port = 0;

  async open(): Promise<this> {
    this.#http.on("upgrade", (request, socket, head) => this.#sockets.handleUpgrade(request, socket, head, (opened) => this.#serve(opened)));
    await new Promise<void>((resolve) => this.#http.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#http.address() as AddressInfo).port;
    this.url = `http://127.0.0.1:${this.#port}`;
    return this;
  }

  async close(): Promise<void> {
    this.#http.removeAllListeners("upgrade");
    this.drop();
    const closed = new Promise((resolve) => this.#http.close(resolve));
    this.#http.closeAllConnections();
    await closed;
  }

  /** Break every socket, as a network does. */
  drop(): void {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.members.clear();
  }

  /** Store a total, and send it to whoever has joined its user's topic, as the sink does. */
  set(total: Total, { send = true } = {}): void {
    const row = rowOf(total);
    this.rows.set(total.user_id, row);
    this.history.unshift({ ...row, cause: "change" });
    if (!send) return;
    const topic = `credits:${total.user_id}`;
    for (const { socket, join } of this.members.get(`realtime:${topic}`) ?? []) {
      push(socket, [join, null, `realtime:${topic}`, "broadcast", { type: "broadcast", event: "credits.updated", payload: { ...total, id: "m1" } }]);
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url!, this.url);
    this.asked.push(`${request.method} ${pathname}`);
    if (pathname === "/auth/v1/token") return json(response, 200, session(String(searchParams.get("grant_type"))));
    const user = whose(request.headers.authorization?.replace("Bearer ", ""));
    if (user === null) return json(response, 401, { code: "PGRST301", message: "JWT expired", details: null, hint: null });
    if (!this.exposed || request.headers["accept-profile"] !== "creditsd") {
      return json(response, 406, { code: "PGRST106", message: "Invalid schema: creditsd", details: null, hint: null });
    }
    const table = pathname.replace("/rest/v1/", "");
    const known = table === "balances" ? [...this.rows.values()] : table === "history" ? this.history : undefined;
    if (!known) return json(response, 404, { code: "PGRST205", message: `Could not find the table 'creditsd.${table}'`, details: null, hint: null });
    // What row level security lets through, then what was asked for.
    const below = searchParams.get("version")?.replace("lt.", "");
    const columns = searchParams.get("select")!.split(",");
    const seen = known.filter((row) => row.user_id === user && (below === undefined || row.version < Number(below)))
      .slice(0, Number(searchParams.get("limit") ?? Infinity))
      .map((row) => Object.fromEntries(columns.map((column) => [column, row[column]])));
    json(response, 200, seen);
  }

  #serve(socket: WebSocket): void {
    socket.on("message", (data) => {
      const [join, ref, topic, event, payload] = JSON.parse(String(data)) as Frame;
      const reply = (status: string, answer: object): void => push(socket, [join, ref, topic, "phx_reply", { status, response: answer }]);
      if (event === "heartbeat") return reply("ok", {});
      if (event === "phx_leave") {
        this.#leave(socket, topic);
        return reply("ok", {});
      }
      if (event !== "phx_join") return;
      const { config, access_token } = payload as { config: { private?: boolean }; access_token?: string };
      const user = whose(access_token);
      if (!config.private || user === null || topic !== `realtime:credits:${user}`) {
        return reply("error", { reason: `Unauthorized: You do not have permissions to read from this Channel topic: ${topic.replace("realtime:", "")}` });
      }
      const members = this.members.get(topic) ?? new Set();
      this.members.set(topic, members.add({ socket, join, user }));
      reply("ok", { postgres_changes: [] });
    });
    socket.on("close", () => [...this.members.keys()].forEach((topic) => this.#leave(socket, topic)));
  }

  #leave(socket: WebSocket, topic: string): void {
    const members = this.members.get(topic);
    for (const member of members ?? []) if (member.socket === socket) members!.delete(member);
    if (members?.size === 0) this.members.delete(topic);
  }
}

function rowOf({ membershipStatus, planType, canBuy, hasEverHadSubscription, message: _, ...same }: Total): Row {
  return { level: null, low_credits: null, ...same, membership_status: membershipStatus, plan_type: planType, can_buy: canBuy, has_ever_had_subscription: hasEverHadSubscription };
}

/** Who a token is of; null where it has ended, or there is none. */
function whose(token: string | undefined): string | null {
  try {
    const { sub, exp } = JSON.parse(Buffer.from(token!.split(".")[1]!, "base64url").toString()) as { sub?: string; exp?: number };
    return sub !== undefined && (exp === undefined || exp > Date.now() / 1000) ? sub : null;
  } catch {
    return null;
  }
}

/** A session as Auth gives it; the refresh token says whose. */
export function session(user: string, seconds = 3600): object {
  const expires = Math.floor(Date.now() / 1000) + seconds;
  return {
    access_token: tokenOf(user, 1, expires), refresh_token: user, token_type: "bearer", expires_in: seconds, expires_at: expires,
    user: { id: user, aud: "authenticated", email: `${user}@example.com`, app_metadata: {}, user_metadata: {}, created_at: "2026-01-01T00:00:00Z" },
  };
}

function push(socket: WebSocket, frame: Frame): void {
  socket.send(JSON.stringify(frame));
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}
