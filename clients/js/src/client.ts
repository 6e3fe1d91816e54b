/** The client: who is signed in, which tab holds the connection, and when to try again. */

import { CreditsError } from "./errors.ts";
import { Memory, localShelf, type Shelf } from "./memory.ts";
import { watchPage } from "./page.ts";
import { lead } from "./lead.ts";
import { backOff, type End } from "./retry.ts";
import { read } from "./server.ts";
import { type Change, type Listener, type Snapshot, standing, State } from "./state.ts";
import { belong, child, type Group, type Message, sharing } from "./tabs.ts";
import { isTotal, type Total } from "./total.ts";

/** Give the JWT of whoever is signed in, or null. `fresh` asks for one newer than the last, which was refused. */
export type GetToken = (ask: { readonly fresh: boolean }) => string | null | undefined | Promise<string | null | undefined>;

export interface CreditsClientOptions {
  /** Where creditsd answers, such as https://credits.example.com; empty for the page's own origin. */
  readonly url: string;
  readonly getToken: GetToken;
  /** Where the last known total is kept; local storage unless you say another place, or null for none. */
  readonly storage?: Shelf | null;
  /** Whether all tabs of a user share one connection, where the browser can. Default true. */
  readonly shareTabs?: boolean;
  /** After how much silence a connection counts as dead. The server sends a heartbeat every 15 s. Default 40 000. */
  readonly silenceMs?: number;
  /** The longest wait between two attempts. Default 30 000. */
  readonly maxRetryMs?: number;
  /** How long an optimistic change is shown when no newer total comes. Default 10 000. */
  readonly optimisticMs?: number;
}

export interface CreditsClient extends Snapshot {
  /** The state as one value, the same object until something changes. */
  snapshot(): Snapshot;
  /** Hear of every change; hold the connection for as long as anybody is subscribed, unless `live` is false. */
  subscribe(listener: Listener, options?: { readonly live?: boolean }): () => void;
  /** Read the total now. Raises CreditsError, which is also in `error`. */
  refetch(): Promise<Total>;
  /** Show a change at once: credits to add, or a function of the total. It yields to the next newer total. */
  optimistic(change: Change): () => void;
  /** Keep a total that came another way, such as in the answer of your own API, if it is newer. */
  accept(total: Total): void;
  /** Somebody signed in or out: forget the total and ask `getToken` anew. */
  restart(): void;
  /** End everything. A closed client stays closed. */
  close(): void;
}

/** The longest time a timer can be set to; for ever, as people count. */
const FOREVER_MS = 2 ** 31 - 1;
const SWITCHED = "somebody else signed in meanwhile";

/** Make a client. Nothing is opened before somebody subscribes, so it may be made on a server too. */
export function createCreditsClient(options: CreditsClientOptions): CreditsClient {
  return new Client(options);
}

class Client implements CreditsClient {
  readonly #url: string;
  readonly #options: CreditsClientOptions;
  readonly #maxRetryMs: number;
  readonly #silenceMs: number;
  readonly #state = new State();
  #memory: Memory | undefined;
  /** Who the total belongs to: the token's `sub`, empty where it has none; null: nobody; undefined: not known yet. */
  #user: string | null | undefined;
  /** Grows with every restart: what was asked for in an earlier era is of no use in this one. */
  #era = 0;
  #holders = 0;
  /** From the first holder to the last; one that sleeps is aborted. */
  #running: AbortController | undefined;
  /** While one user is signed in. */
  #session: AbortController | undefined;
  #group: Group | undefined;
  #unwatch: (() => void) | undefined;
  #fetching: Promise<Total> | undefined;
  #cutShort = (): void => {};
  #endIfSilentFor = (_ms: number, _end: End): void => {};

  constructor(options: CreditsClientOptions) {
    this.#options = options;
    this.#url = options.url.replace(/\/+$/, "");
    this.#maxRetryMs = options.maxRetryMs ?? 30_000;
    this.#silenceMs = options.silenceMs ?? 40_000;
  }

  get total() { return this.#state.snapshot.total; }
  get status() { return this.#state.snapshot.status; }
  get error() { return this.#state.snapshot.error; }
  get pending() { return this.#state.snapshot.pending; }

  readonly snapshot = (): Snapshot => this.#state.snapshot;

  readonly subscribe = (listener: Listener, { live = true } = {}): (() => void) => {
    if (this.status === "closed") return () => {};
    // The same function may be subscribed twice, and each leaves by itself.
    const mine: Listener = (snapshot) => listener(snapshot);
    this.#state.listeners.add(mine);
    if (live && ++this.#holders === 1) this.#start();
    return () => {
      if (!this.#state.listeners.delete(mine) || !live || --this.#holders > 0) return;
      // React unmounts and mounts again in one go; that is no reason to hang up.
      setTimeout(() => {
        if (this.#holders === 0) this.#stop();
      });
    };
  };

  readonly refetch = (): Promise<Total> => {
    const fetching = (this.#fetching ??= this.#fetch().finally(() => {
      if (this.#fetching === fetching) this.#fetching = undefined;
    }));
    return fetching;
  };

  readonly optimistic = (change: Change): (() => void) => this.#state.change(change, this.#options.optimisticMs ?? 10_000);

  readonly accept = (total: Total): void => {
    // Before anybody is known it may be what the page was rendered with; after a restart it may be the one before's.
    const known = this.#user === undefined ? this.#era === 0 : this.#isMine(total);
    if (known && isTotal(total)) this.#take(total);
  };

  readonly restart = (): void => {
    this.#era++;
    this.#user = undefined;
    this.#fetching = undefined;
    this.#state.forget();
    if (this.#running) this.#state.stand("connecting");
    this.#session?.abort();
    this.#cutShort();
  };

  readonly close = (): void => {
    this.#stop();
    this.#state.forget();
    this.#state.stand("closed");
    this.#state.listeners.clear();
  };

  #start(): void {
    this.#unwatch ??= watchPage({
      online: () => this.#cutShort(),
      offline: () => this.#endIfSilentFor(0, "offline"),
      awake: () => {
        if (!this.#running) this.#start();
        else void this.#check(this.#running.signal);
      },
      asleep: () => this.#pause(),
    });
    if (this.#running) return;
    this.#running = new AbortController();
    void this.#run(this.#running.signal);
  }

  #pause(): void {
    this.#running?.abort();
    this.#running = undefined;
  }

  #stop(): void {
    this.#pause();
    this.#unwatch?.();
    this.#unwatch = undefined;
    if (this.status !== "closed") this.#state.stand("idle");
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const session = (this.#session = child(signal));
      if (await this.#identify(session.signal)) {
        if (this.status === "idle" || this.status === "signed_out") this.#state.stand("connecting");
        await this.#belong(session.signal);
      }
      session.abort();
      this.#group = undefined;
    }
  }

  /** Find out who is signed in, however long that takes; false where the session ended meanwhile. */
  async #identify(signal: AbortSignal): Promise<boolean> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#token(false);
        return !signal.aborted;
      } catch (error) {
        if (signal.aborted) break;
        const nobody = (error as CreditsError).kind === "signed_out";
        await this.#rest(nobody ? FOREVER_MS : backOff(failures, 1000, this.#maxRetryMs), false, signal);
      }
    }
    return false;
  }

  /** Ask for a token, and take note of whose it is. Raises CreditsError, having said so in the state. */
  async #token(fresh: boolean): Promise<string> {
    let token: string | null | undefined;
    const era = this.#era;
    try {
      token = await this.#options.getToken({ fresh });
    } catch (cause) {
      const error = new CreditsError("token", cause instanceof Error ? cause.message : "getToken failed", { cause });
      this.#state.stand(standing(error), error);
      throw error;
    }
    // Asked for before somebody else signed in: it may be the token of the one who left.
    if (era !== this.#era) throw new CreditsError("switched", SWITCHED);
    this.#become(token ? subject(token) : null);
    if (token) return token;
    this.#state.stand("signed_out");
    throw new CreditsError("signed_out", "nobody is signed in");
  }

  /** Take note of who is signed in; whatever was another user's is forgotten and its session ends. */
  #become(user: string | null): void {
    if (user === this.#user) return;
    if (this.#user !== undefined) this.#session?.abort();
    const first = this.#user === undefined;
    this.#user = user;
    const { truth } = this.#state;
    if (!first || (truth && !this.#isMine(truth))) this.#state.forget();
    const { storage } = this.#options;
    this.#memory ??= new Memory(this.#url, storage === undefined ? localShelf() : storage);
    const known = this.#memory.recall(user ?? "");
    if (known) this.#state.accept(known);
  }

  /** Whether a total is of the user we know. The server may write an id in small letters that the token has in capitals. */
  #isMine(total: Total): boolean {
    return this.#user === "" || total.user_id.toLowerCase() === this.#user?.toLowerCase();
  }

  async #belong(signal: AbortSignal): Promise<void> {
    const user = this.#user;
    const leading = (reign: AbortSignal): Promise<void> => lead({
      url: this.#url,
      silenceMs: this.#silenceMs,
      maxRetryMs: this.#maxRetryMs,
      token: async (fresh) => {
        const token = await this.#token(fresh);
        return user === this.#user ? token : null;
      },
      since: () => this.#state.truth?.version,
      total: (total) => {
        if (!reign.aborted) this.#take(total);
      },
      stand: (status, error) => {
        if (reign.aborted) return;
        this.#state.stand(status, error);
        this.#group?.say(this.#told());
      },
      controls: (endIfSilentFor) => (this.#endIfSilentFor = endIfSilentFor),
      rest: (ms, firm) => this.#rest(ms, firm, reign),
    }, reign);
    if (!user || this.#options.shareTabs === false || !sharing()) return leading(signal);
    return belong(`creditsd ${this.#url} ${user}`, signal, this.#silenceMs / 8, {
      lead: leading,
      hear: (message) => this.#hear(message),
      tell: () => this.#told(),
      nudge: () => this.#cutShort(),
    }, (group) => (this.#group = group));
  }

  #hear({ total, status, error }: Message): void {
    if (isTotal(total)) this.#state.accept(total);
    if (status) this.#state.stand(status, error ? new CreditsError(error.kind, error.message) : null);
  }

  #told(): Message {
    const { status, error } = this.#state.snapshot;
    return { total: this.#state.truth, status, error: error && { kind: error.kind, message: error.message } };
  }

  /** Keep a total that came to this tab, and tell the others. */
  #take(total: Total): void {
    if (!this.#state.accept(total)) return;
    this.#memory?.keep(this.#user ?? "", total);
    this.#group?.say({ total });
  }

  async #fetch(): Promise<Total> {
    const era = this.#era;
    for (let fresh = false; ; fresh = true) {
      if (this.status === "closed") throw new CreditsError("closed", "the client was closed");
      const token = await this.#token(fresh);
      const user = this.#user;
      try {
        const total = await read(this.#url, token);
        if (user !== this.#user || era !== this.#era) throw new CreditsError("switched", SWITCHED);
        this.#take(total);
        this.#state.stand(this.status);
        this.#cutShort();
        return this.#state.truth!;
      } catch (error) {
        const { kind } = error as CreditsError;
        if (kind === "unauthorized" && !fresh) continue;
        if (kind !== "switched") this.#state.stand(this.status, error as CreditsError);
        throw error;
      }
    }
  }

  /** After a sleep, or when a person comes back to the tab: is the line still what it seems to be? */
  async #check(signal: AbortSignal): Promise<void> {
    this.#endIfSilentFor(this.#silenceMs / 2, "silent");
    this.#cutShort();
    if (this.#group?.leading === false) this.#group.hello(true);
    const era = this.#era;
    try {
      const token = await this.#options.getToken({ fresh: false });
      if (!signal.aborted && era === this.#era) this.#become(token ? subject(token) : null);
    } catch {
      // Whoever needs the token next will find out, and say so.
    }
  }

  /** Wait for a while, for the signal, or for a reason to try now. */
  #rest(ms: number, firm: boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
      if (!firm) this.#cutShort = done;
    });
  }
}

/** Read whose token it is. Nothing is proven by that: it names what is kept and shared on this side, no more. */
export function subject(token: string): string {
  try {
    const { sub } = JSON.parse(atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))) as { sub?: unknown };
    return typeof sub === "string" ? sub : "";
  } catch {
    return "";
  }
}
