/** The client: it joins who is signed in, what is shown, and which tab holds the connection. */

import { CreditsError } from "./errors.ts";
import { httpTransport } from "./http.ts";
import { identify } from "./identity.ts";
import { line, type Line } from "./lead.ts";
import { made } from "./only.ts";
import type { CreditsClient, CreditsClientOptions } from "./options.ts";
import { looking, watchPage } from "./page.ts";
import { type Parts, withDefaults } from "./parts.ts";
import { backOff } from "./retry.ts";
import { EMPTY, type Listener, type Snapshot, State, type Status } from "./state.ts";
import { type Member, member, sharing } from "./tabs.ts";
import { child, FOREVER_MS, Rests, within } from "./timing.ts";
import { isTotal, type Total } from "./total.ts";
import type { Ask } from "./transport.ts";

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
  const transport = options.transport ?? httpTransport(options.url, options.fetch);
  const settings = withDefaults(options);
  const state = new State();
  const rests = new Rests();
  const ended = new AbortController();
  let holders = 0;
  /** From the first holder to the last; one that sleeps is aborted. */
  let running: AbortController | undefined;
  /** While one user is signed in. */
  let session: AbortController | undefined;
  let group: Member | undefined;
  let held: Line | undefined;
  let unwatch: (() => void) | undefined;
  let fetching: Promise<Total> | undefined;

  const accept = (total: Total): void => {
    if (isTotal(total) && identity.owns(total)) take(total);
  };

  const ask = async <T>(use: (ask: Ask) => Promise<T>): Promise<T> => {
    const { era } = identity;
    for (let fresh = false; ; fresh = true) {
      if (ended.signal.aborted) throw new CreditsError("closed", "the client is closed");
      const token = await identity.token(fresh);
      const user = identity.user!;
      try {
        const answer = await within(settings.timeoutMs, ended.signal, (signal) => use({ token, user, signal }));
        identity.sure(era, user);
        return answer;
      } catch (error) {
        if ((error as CreditsError).kind !== "unauthorized" || fresh) throw error;
      }
    }
  };

  const take = (total: Total): void => {
    if (!state.accept(total)) return;
    identity.keep(total);
    group?.say({ total });
  };

  const stand = (status: Status, error?: CreditsError): void => {
    state.stand(status, error);
    group?.tell();
  };

  const over = (): void => session?.abort();

  const parts: Parts = { transport, settings, state, rests, ended, ask, take, stand, over };
  const identity = identify(parts);

  const read = async (minVersion?: number): Promise<Total> => {
    try {
      take(await ask((who) => transport.read({ ...who, minVersion })));
      state.stand(state.current.status);
      rests.end();
      return state.truth!;
    } catch (error) {
      // What `getToken` says is in the state already, and so is the end.
      if (!["switched", "token", "signed_out", "closed"].includes((error as CreditsError).kind)) state.stand(state.current.status, error as CreditsError);
      throw error;
    }
  };

  /** Share the connection of this user, or hold it alone where tabs cannot find each other. */
  const belong = (user: string, signal: AbortSignal): Promise<void> => {
    const hold = (reign: AbortSignal): Promise<void> => (held = line(parts, identity, user, reign)).hold();
    if (user && settings.shareTabs && sharing()) return (group = member(parts, user, signal, hold)).stay();
    state.note({ tabs: 1, leading: true });
    return hold(signal);
  };

  /** Find out who is signed in, however long that takes; be theirs for as long as they are; and so on. */
  const run = async (signal: AbortSignal): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      const mine = (session = child(signal));
      try {
        await identity.token(false);
        failures = 0;
        if (["idle", "signed_out"].includes(state.current.status)) state.stand("connecting");
        if (!mine.signal.aborted) await belong(identity.user!, mine.signal);
      } catch (error) {
        if (!(error instanceof CreditsError)) throw error;
        await rests.rest(error.kind === "signed_out" ? FOREVER_MS : backOff(failures++, 1000, settings.maxRetryMs), false, mine.signal);
      }
      mine.abort();
      group = undefined;
    }
  };

  const pause = (): void => {
    running?.abort();
    running = undefined;
  };

  /** After a sleep, or when a person comes back to the tab: is the line still what it seems to be? */
  const awake = (): void => {
    if (!running) return start();
    held?.endIfSilentFor(settings.silenceMs / 2, "silent");
    rests.end();
    group?.hello(true);
    void identity.check(false);
  };

  const start = (): void => {
    identity.open();
    unwatch ??= watchPage({
      online: () => rests.end(),
      offline: () => held?.endIfSilentFor(0, "offline"),
      visibilitychange: () => looking() && awake(),
      // The browser lets the tab run again, or is about to stop it: then whatever is held is given back now.
      pageshow: awake,
      resume: awake,
      pagehide: pause,
      freeze: pause,
    });
    if (running) return;
    running = new AbortController();
    void run(running.signal);
  };

  const stop = (): void => {
    pause();
    unwatch?.();
    unwatch = undefined;
    identity.close();
    state.stand("idle");
  };

  const client = {
    transport, accept, ask,
    snapshot: () => state.current,

    subscribe(listener, { live = true } = {}) {
      if (ended.signal.aborted) return () => {};
      // The same function may be subscribed twice, and each leaves by itself.
      const mine: Listener = (snapshot) => listener(snapshot);
      state.listeners.add(mine);
      if (live && ++holders === 1) start();
      return () => {
        if (!state.listeners.delete(mine) || !live || --holders > 0) return;
        // React unmounts and mounts again in one go; that is no reason to hang up.
        setTimeout(() => {
          if (holders === 0) stop();
        });
      };
    },

    refetch() {
      const done = (): void => void (fetching = undefined);
      // One that takes long may have been asked before what the next caller has just done.
      if (!fetching) setTimeout(done, SHARED_MS);
      return (fetching ??= read().finally(done));
    },

    optimistic: (change, { until } = {}) => state.change(change, until, settings.optimisticMs, (answer, version) => {
      if (isTotal(answer)) accept(answer);
      else if (state.current.status !== "live") read(version).catch(() => {});
    }),

    restart() {
      fetching = undefined;
      if (running) state.stand("connecting");
      over();
      identity.restart();
      rests.end();
    },

    signOut() {
      fetching = undefined;
      identity.signOut();
    },

    close() {
      ended.abort();
      stop();
      state.forget();
      state.stand("closed");
      state.listeners.clear();
    },
  } satisfies Omit<CreditsClient, keyof Snapshot> as unknown as CreditsClient;

  for (const name of Object.keys(EMPTY) as (keyof Snapshot)[]) Object.defineProperty(client, name, { get: () => state.current[name] });
  if (options.initialTotal) accept(options.initialTotal);
  return client;
}
