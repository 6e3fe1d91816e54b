/** What the leader does: hold the connection, again and again, and read the total where none comes through. */

import { CreditsError } from "./errors.ts";
import type { Identity } from "./identity.ts";
import { looking } from "./page.ts";
import type { Parts } from "./parts.ts";
import { afterEnd, afterError, afterMute, type End, type Next } from "./retry.ts";
import { standing, type Status } from "./state.ts";
import { child, FOREVER_MS } from "./timing.ts";
import { renewalMs } from "./token.ts";

/** How long a total that nobody looks at is not read. */
const UNSEEN_MS = 30_000;

/** One stream, from its request to its end. */
interface Stream {
  readonly controller: AbortController;
  readonly began: number;
  /** The clock on the wall when it last spoke, because after a sleep that one knows how long it was. */
  heard: number;
  /** When it spoke first; 0: not yet. */
  spoke: number;
  /** Why we ended it. */
  end?: End;
}

export interface Line {
  /** Hold the connection until the signal, or until its user is no longer the one signed in. */
  hold(): Promise<void>;
  /** End whatever has said nothing for so long. */
  endIfSilentFor(ms: number, end: End): void;
}

/** Make the line of one user, which is over with the signal. */
export function line({ settings, rests, transport, state, take, ask, stand: say }: Parts, identity: Identity, user: string, over: AbortSignal): Line {
  const { silenceMs, patienceMs, pollMs, maxRetryMs } = settings;
  const streams = new Set<Stream>();
  let next: Next = { failures: 0, fresh: false, waitMs: 0, firm: false };
  let stepMs = 1000;
  let polling: AbortController | undefined;
  /** How often in a row a stream dried up; one that said nothing at all counts twice. */
  let silences = 0;

  const stand = (status: Status, error?: CreditsError): void => {
    if (!over.aborted) say(status, error);
  };

  const end = (stream: Stream, why: End): void => {
    stream.end ??= why;
    stream.controller.abort();
  };

  const endIfSilentFor = (ms: number, why: End): void => {
    for (const stream of streams) if (Date.now() - stream.heard >= ms) end(stream, why);
  };

  /** The token of the user this line is for; null when somebody else, or nobody, is signed in now. */
  const tokenOf = async (fresh: boolean): Promise<string | null> => {
    const token = await identity.token(fresh);
    return user === identity.user && !over.aborted ? token : null;
  };

  const open = (): Stream => {
    const stream = { controller: child(over), began: Date.now(), heard: Date.now(), spoke: 0 };
    streams.add(stream);
    return stream;
  };

  const heard = (stream: Stream, before?: Stream): void => {
    if (stream.controller.signal.aborted) return;
    stream.heard = Date.now();
    stream.spoke ||= stream.heard;
    polling?.abort();
    polling = undefined;
    stand("live");
    before?.controller.abort();
  };

  /** Read the total every few seconds, more seldom while nobody looks. */
  const poll = async (signal: AbortSignal): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      let waitMs = Math.max(pollMs, looking() ? 0 : UNSEEN_MS);
      try {
        const total = await ask(transport.read);
        if (signal.aborted) return;
        failures = 0;
        take(total);
        stand("polling");
        for (const stream of streams) if (!stream.spoke && Date.now() - stream.began > patienceMs) end(stream, "mute");
      } catch (error) {
        if (signal.aborted) return;
        ({ waitMs, failures } = afterError(error as CreditsError, { failures, fresh: true }, stepMs, maxRetryMs));
        stand(standing(error as CreditsError), error as CreditsError);
      }
      await rests.rest(waitMs, false, signal);
    }
  };

  const startPolling = (): void => {
    if (!polling) void poll((polling = child(over)).signal);
  };

  /** Listen to a stream, and open the next one before its token ends; resolve with the end of the last. */
  const listen = async (token: string, stream: Stream, before?: Stream): Promise<End> => {
    const { controller: { signal } } = stream;
    let after: Promise<End> | undefined;
    const timers = [
      setTimeout(() => stream.spoke || startPolling(), patienceMs),
      setTimeout(async () => {
        const fresh = await tokenOf(true).catch(() => null);
        // Where there is no other token yet, the server says when it is time.
        if (!fresh || fresh === token || signal.aborted) return;
        after = listen(fresh, open(), stream);
        await after.catch(() => {});
        if (!signal.aborted) after = undefined;
      }, transport.selfKeeping ? FOREVER_MS : renewalMs(token)),
    ];
    try {
      const why = await transport.listen({
        token, signal, user,
        since: state.truth?.version,
        total: (total) => {
          if (!signal.aborted) take(total);
        },
        retry: (ms) => (stepMs = ms),
        heard: () => heard(stream, before),
      });
      return after ?? stream.end ?? why;
    } finally {
      timers.forEach((timer) => clearTimeout(timer));
      streams.delete(stream);
      stream.controller.abort();
    }
  };

  /** Hold one stream; false when its user has gone. */
  const attempt = async (): Promise<boolean> => {
    try {
      const token = await tokenOf(next.fresh);
      if (token === null) return false;
      const stream = open();
      const why = await listen(token, stream);
      // One that dries up again and again is kept back on its way, like one that says nothing at all.
      silences = why === "silent" ? silences + 1 : why === "mute" ? silences + 2 : 0;
      const replaced = why === "replaced";
      if (replaced) stand("error", new CreditsError("busy", "too many connections of this user"));
      else if (!polling) stand(why === "offline" ? "offline" : "connecting");
      next = silences > 1 ? afterMute(silences, maxRetryMs)
        : afterEnd(why, next, Date.now() - (stream.spoke || stream.began), stepMs, maxRetryMs);
      // Where streams are cut off as soon as they begin, reading is better than waiting.
      if (replaced || silences > 1 || next.failures > 2) startPolling();
    } catch (error) {
      if (over.aborted) return false;
      if (!(error instanceof CreditsError)) throw error;
      next = afterError(error, next, stepMs, maxRetryMs);
      // The first refused token says only that it is time for a new one.
      if (next.waitMs > 0 && !polling) stand(standing(error), error);
      if (next.failures > 1 && ["server", "busy", "malformed"].includes(error.kind)) startPolling();
    }
    return !over.aborted;
  };

  const hold = async (): Promise<void> => {
    stand("connecting");
    if (!settings.stream) return poll(over);
    const watch = setInterval(() => transport.selfKeeping || endIfSilentFor(silenceMs, "silent"), silenceMs / 4);
    try {
      while (await attempt()) {
        const { waitMs, firm } = next;
        if (waitMs > 0) await rests.rest(waitMs, firm, over);
      }
    } finally {
      clearInterval(watch);
      polling?.abort();
    }
  };

  return { hold, endIfSilentFor };
}
