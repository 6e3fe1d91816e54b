/** The client: it joins who is signed in, what is shown, and which tab holds the connection. */

import { CreditsError } from "./errors.ts";
import { httpTransport } from "./http.ts";
import { type Identity, identify } from "./identity.ts";
import { line, type Line } from "./lead.ts";
import { made } from "./only.ts";
import type { CreditsClient, CreditsClientOptions, OptimisticOptions } from "./options.ts";
import { looking, watchPage } from "./page.ts";
import { type Parts, type Settings, settings } from "./parts.ts";
import type { Change } from "./pending.ts";
import { backOff } from "./retry.ts";
import { EMPTY, type Listener, type Snapshot, State, type Status } from "./state.ts";
import { type Member, member, sharing } from "./tabs.ts";
import { child, FOREVER_MS, Rests, within } from "./timing.ts";
import { isTotal, type Total } from "./total.ts";
import type { Ask, Transport } from "./transport.ts";

/** For how long a read that is under way answers whoever asks after it. */
const SHARED_MS = 1000;

/** Make a client. Nothing is opened before somebody subscribes, so it may be made on a server too. */
export function createCreditsClient(options: CreditsClientOptions): CreditsClient {
  const client = unlistedClient(options);
  made(client);
  return client;
}

/** Make one that is not found by hooks without a provider. */
export function unlistedClient(options: CreditsClientOptions): CreditsClient {
  return new Client(options) as unknown as CreditsClient;
}

/** What the interface does not name is for the client's own parts. */
class Client implements Omit<CreditsClient, keyof Snapshot>, Parts {
  readonly transport: Transport;
  readonly settings: Settings;
  readonly state = new State();
  readonly rests = new Rests();
  readonly identity: Identity;
  readonly ended = new AbortController();
  #holders = 0;
  /** From the first holder to the last; one that sleeps is aborted. */
  #running: AbortController | undefined;
  /** While one user is signed in. */
  #session: AbortController | undefined;
  #group: Member | undefined;
  #line: Line | undefined;
  #unwatch: (() => void) | undefined;
  #fetching: Promise<Total> | undefined;

  constructor(options: CreditsClientOptions) {
    this.transport = options.transport ?? httpTransport(options.url, options.fetch);
    this.settings = settings(options);
    this.identity = identify(this);
    for (const name of Object.keys(EMPTY) as (keyof Snapshot)[]) Object.defineProperty(this, name, { get: () => this.state.current[name] });
    if (options.initialTotal) this.accept(options.initialTotal);
  }

  readonly snapshot = (): Snapshot => this.state.current;

  readonly subscribe = (listener: Listener, { live = true } = {}): (() => void) => {
    if (this.ended.signal.aborted) return () => {};
    // The same function may be subscribed twice, and each leaves by itself.
    const mine: Listener = (snapshot) => listener(snapshot);
    this.state.listeners.add(mine);
    if (live && ++this.#holders === 1) this.#start();
    return () => {
      if (!this.state.listeners.delete(mine) || !live || --this.#holders > 0) return;
      // React unmounts and mounts again in one go; that is no reason to hang up.
      setTimeout(() => {
        if (this.#holders === 0) this.#stop();
      });
    };
  };

  readonly refetch = (): Promise<Total> => {
    const over = (): void => void (this.#fetching = undefined);
    // One that takes long may have been asked before what the next caller has just done.
    if (!this.#fetching) setTimeout(over, SHARED_MS);
    return (this.#fetching ??= this.#fetch().finally(over));
  };

  readonly optimistic = (change: Change, { until }: OptimisticOptions = {}): (() => void) =>
    this.state.change(change, until, this.settings.optimisticMs, (answer, version) => {
      if (isTotal(answer)) this.accept(answer);
      else if (this.state.current.status !== "live") this.#fetch(version).catch(() => {});
    });

  readonly accept = (total: Total): void => {
    if (isTotal(total) && this.identity.owns(total)) this.take(total);
  };

  readonly ask = async <T>(use: (ask: Ask) => Promise<T>): Promise<T> => {
    const { identity, settings } = this;
    const { era } = identity;
    for (let fresh = false; ; fresh = true) {
      if (this.ended.signal.aborted) throw new CreditsError("closed", "the client is closed");
      const token = await identity.token(fresh);
      const user = identity.user!;
      try {
        const answer = await within(settings.timeoutMs, this.ended.signal, (signal) => use({ token, user, signal }));
        identity.sure(era, user);
        return answer;
      } catch (error) {
        if ((error as CreditsError).kind !== "unauthorized" || fresh) throw error;
      }
    }
  };

  readonly restart = (): void => {
    this.#fetching = undefined;
    if (this.#running) this.state.stand("connecting");
    this.over();
    this.identity.restart();
    this.rests.end();
  };

  readonly signOut = (): void => {
    this.#fetching = undefined;
    this.identity.signOut();
  };

  readonly close = (): void => {
    this.ended.abort();
    this.#stop();
    this.state.forget();
    this.state.stand("closed");
    this.state.listeners.clear();
  };

  #start(): void {
    this.identity.open();
    this.#unwatch ??= watchPage({
      online: () => this.rests.end(),
      offline: () => this.#line?.endIfSilentFor(0, "offline"),
      visibilitychange: () => looking() && this.#awake(),
      // The browser lets the tab run again, or is about to stop it: then whatever is held is given back now.
      pageshow: () => this.#awake(),
      resume: () => this.#awake(),
      pagehide: () => this.#pause(),
      freeze: () => this.#pause(),
    });
    if (this.#running) return;
    this.#running = new AbortController();
    void this.#run(this.#running.signal);
  }

  /** After a sleep, or when a person comes back to the tab: is the line still what it seems to be? */
  #awake(): void {
    if (!this.#running) return this.#start();
    this.#line?.endIfSilentFor(this.settings.silenceMs / 2, "silent");
    this.rests.end();
    this.#group?.hello(true);
    void this.identity.check(false);
  }

  #pause(): void {
    this.#running?.abort();
    this.#running = undefined;
  }

  #stop(): void {
    this.#pause();
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.identity.close();
    this.state.stand("idle");
  }

  /** Find out who is signed in, however long that takes; be theirs for as long as they are; and so on. */
  async #run(signal: AbortSignal): Promise<void> {
    const { identity, settings } = this;
    for (let failures = 0; !signal.aborted; ) {
      const session = (this.#session = child(signal));
      try {
        await identity.token(false);
        failures = 0;
        if (["idle", "signed_out"].includes(this.state.current.status)) this.state.stand("connecting");
        if (!session.signal.aborted) await this.#belong(identity.user!, session.signal);
      } catch (error) {
        if (!(error instanceof CreditsError)) throw error;
        const nobody = error.kind === "signed_out";
        await this.rests.rest(nobody ? FOREVER_MS : backOff(failures++, 1000, settings.maxRetryMs), false, session.signal);
      }
      session.abort();
      this.#group = undefined;
    }
  }

  /** Share the connection of this user, or hold it alone where tabs cannot find each other. */
  async #belong(user: string, signal: AbortSignal): Promise<void> {
    const hold = (reign: AbortSignal): Promise<void> => (this.#line = line(this, user, reign)).hold();
    if (!user || !this.settings.shareTabs || !sharing()) {
      this.state.note({ tabs: 1, leading: true });
      return hold(signal);
    }
    this.#group = member(this, user, signal, hold);
    return this.#group.stay();
  }

  readonly stand = (status: Status, error?: CreditsError): void => {
    this.state.stand(status, error);
    this.#group?.tell();
  };

  readonly take = (total: Total): void => {
    if (!this.state.accept(total)) return;
    this.identity.keep(total);
    this.#group?.say({ total });
  };

  readonly over = (): void => this.#session?.abort();

  async #fetch(minVersion?: number): Promise<Total> {
    try {
      this.take(await this.ask((ask) => this.transport.read({ ...ask, minVersion })));
      this.state.stand(this.state.current.status);
      this.rests.end();
      return this.state.truth!;
    } catch (error) {
      // What `getToken` says is in the state already, and so is the end.
      if (!["switched", "token", "signed_out", "closed"].includes((error as CreditsError).kind)) this.state.stand(this.state.current.status, error as CreditsError);
      throw error;
    }
  }
}
