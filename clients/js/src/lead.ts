/** What the leader does: hold the connection, again and again, and read the total where none comes through. */

import { CreditsError } from "./errors.ts";
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

export class Line {
  readonly #on: Parts;
  readonly #user: string;
  readonly #signal: AbortSignal;
  #next: Next = { failures: 0, fresh: false, waitMs: 0, firm: false };
  #stepMs = 1000;
  readonly #streams = new Set<Stream>();
  #polling: AbortController | undefined;
  /** How often in a row a stream dried up; one that said nothing at all counts twice. */
  #silences = 0;

  constructor(on: Parts, user: string, signal: AbortSignal) {
    this.#on = on;
    this.#user = user;
    this.#signal = signal;
  }

  /** Hold the connection until the signal, or until its user is no longer the one signed in. */
  async hold(): Promise<void> {
    const { settings, rests } = this.#on;
    this.#stand("connecting");
    if (!settings.stream) return this.#poll(this.#signal);
    try {
      while (await this.#attempt()) {
        const { waitMs, firm } = this.#next;
        if (waitMs > 0) await rests.rest(waitMs, firm, this.#signal);
      }
    } finally {
      this.#polling?.abort();
    }
  }

  /** End whatever has said nothing for so long. */
  endIfSilentFor(ms: number, end: End): void {
    for (const stream of this.#streams) if (Date.now() - stream.heard >= ms) this.#end(stream, end);
  }

  #stand(status: Status, error?: CreditsError): void {
    if (!this.#signal.aborted) this.#on.stand(status, error);
  }

  #end(stream: Stream, end: End): void {
    stream.end ??= end;
    stream.controller.abort();
  }

  /** The token of the user this line is for; null when somebody else, or nobody, is signed in now. */
  async #token(fresh: boolean): Promise<string | null> {
    const token = await this.#on.identity.token(fresh);
    return this.#user === this.#on.identity.user && !this.#signal.aborted ? token : null;
  }

  /** Hold one stream; false when its user has gone. */
  async #attempt(): Promise<boolean> {
    const { maxRetryMs } = this.#on.settings;
    try {
      const token = await this.#token(this.#next.fresh);
      if (token === null) return false;
      const stream = this.#open();
      const end = await this.#listen(token, stream);
      // One that dries up again and again is kept back on its way, like one that says nothing at all.
      this.#silences = end === "silent" ? this.#silences + 1 : end === "mute" || end === "unreadable" ? this.#silences + 2 : 0;
      const replaced = end === "replaced";
      if (replaced) this.#stand("error", new CreditsError("busy", "too many connections of this user"));
      else if (!this.#polling) this.#stand(end === "offline" ? "offline" : "connecting");
      this.#next = this.#silences > 1 ? afterMute(this.#silences, maxRetryMs)
        : afterEnd(end, this.#next, Date.now() - (stream.spoke || stream.began), this.#stepMs, maxRetryMs);
      // Where streams are cut off as soon as they begin, reading is better than waiting.
      if (replaced || this.#silences > 1 || this.#next.failures > 2) this.#startPolling();
    } catch (error) {
      if (this.#signal.aborted) return false;
      if (!(error instanceof CreditsError)) throw error;
      this.#next = afterError(error, this.#next, this.#stepMs, maxRetryMs);
      // The first refused token says only that it is time for a new one.
      if (this.#next.waitMs > 0 && !this.#polling) this.#stand(standing(error), error);
      if (this.#next.failures > 1 && ["server", "busy", "malformed"].includes(error.kind)) this.#startPolling();
    }
    return !this.#signal.aborted;
  }

  #open(): Stream {
    const stream = { controller: child(this.#signal), began: Date.now(), heard: Date.now(), spoke: 0 };
    this.#streams.add(stream);
    return stream;
  }

  /** Listen to a stream, and open the next one before its token ends; resolve with the end of the last. */
  async #listen(token: string, stream: Stream, before?: Stream): Promise<End> {
    const { settings: { silenceMs, patienceMs }, transport, state, take } = this.#on;
    const { signal } = stream.controller;
    const renewal = transport.selfKeeping ? undefined : renewalMs(token);
    let after: Promise<End> | undefined;
    const timers = [
      setTimeout(() => stream.spoke || this.#startPolling(), patienceMs),
      setInterval(() => transport.selfKeeping || Date.now() - stream.heard < silenceMs || this.#end(stream, "silent"), silenceMs / 4),
      setTimeout(async () => {
        const fresh = await this.#token(true).catch(() => null);
        // Where there is no other token yet, the server says when it is time.
        if (!fresh || fresh === token || signal.aborted) return;
        after = this.#listen(fresh, this.#open(), stream);
        await after.catch(() => {});
        if (!signal.aborted) after = undefined;
      }, Math.min(renewal ?? FOREVER_MS, FOREVER_MS)),
    ];
    try {
      const end = await transport.listen({
        token, signal,
        user: this.#user,
        since: state.truth?.version,
        total: (total) => {
          if (!signal.aborted) take(total);
        },
        retry: (ms) => (this.#stepMs = ms),
        heard: () => this.#heard(stream, before),
      });
      return after ?? stream.end ?? end;
    } finally {
      timers.forEach((timer) => clearTimeout(timer));
      this.#streams.delete(stream);
      stream.controller.abort();
    }
  }

  #heard(stream: Stream, before?: Stream): void {
    if (stream.controller.signal.aborted) return;
    stream.heard = Date.now();
    stream.spoke ||= stream.heard;
    this.#polling?.abort();
    this.#polling = undefined;
    this.#stand("live");
    before?.controller.abort();
  }

  #startPolling(): void {
    if (this.#polling) return;
    this.#polling = child(this.#signal);
    void this.#poll(this.#polling.signal);
  }

  /** Read the total every few seconds, more seldom while nobody looks. */
  async #poll(signal: AbortSignal): Promise<void> {
    const { settings: { pollMs, maxRetryMs, patienceMs }, transport, rests, ask, take } = this.#on;
    for (let failures = 0; ; ) {
      let waitMs = looking() ? pollMs : Math.max(pollMs, UNSEEN_MS);
      try {
        const total = await ask(transport.read);
        if (signal.aborted) return;
        failures = 0;
        take(total);
        this.#stand("polling");
        for (const stream of this.#streams) if (!stream.spoke && Date.now() - stream.began > patienceMs) this.#end(stream, "mute");
      } catch (error) {
        if (signal.aborted) return;
        ({ waitMs, failures } = afterError(error as CreditsError, { failures, fresh: true }, this.#stepMs, maxRetryMs));
        this.#stand(standing(error as CreditsError), error as CreditsError);
      }
      await rests.rest(waitMs, false, signal);
    }
  }
}
