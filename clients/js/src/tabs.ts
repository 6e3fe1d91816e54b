/** All tabs of one user as a group: one of them, the leader, holds the connection and tells the others. */

import { CreditsError, type CreditsErrorKind } from "./errors.ts";
import { looking } from "./page.ts";
import type { Parts } from "./parts.ts";
import type { Status } from "./state.ts";
import { aborted, child } from "./timing.ts";
import { isTotal, type Total } from "./total.ts";

export interface Message {
  /** The newest total the sender knows. */
  readonly total?: Total | null;
  /** The leader only: how the line stands. */
  readonly status?: Status;
  readonly error?: { readonly kind: CreditsErrorKind; readonly message: string } | null;
  /** The leader only: how many share. */
  readonly tabs?: number;
}

/** A question for the leader; an eager one asks it to try now rather than when its wait is over. */
interface Hello {
  readonly eager: boolean;
}

/** How many questions of a visible follower may stay unanswered. */
const UNANSWERED = 3;

/** Tell whether this browser lets tabs find each other; where it does not, each has a connection of its own. */
export function sharing(): boolean {
  return typeof BroadcastChannel === "function" && !!globalThis.navigator?.locks;
}

/** How long after it came or went a tab is counted: the lock of one that has just come may not be asked for yet. */
const COUNT_MS = 50;

/**
 * One tab in the group of this name, until the signal, or until `lead` returns. A visible follower makes sure every `askMs`
 * that there is a leader.
 */
export class Member {
  readonly #name: string;
  readonly #signal: AbortSignal;
  readonly #askMs: number;
  readonly #of: Parts;
  /** Hold the connection until the signal. To return earlier is to leave the group. */
  readonly #hold: (signal: AbortSignal) => Promise<void>;
  readonly #channel: BroadcastChannel;
  #leading = false;
  #unanswered = 0;
  #steal = false;
  /** While this tab asks for the lock or holds it. */
  #asking: AbortController;
  #tabs = 0;

  constructor(of: Parts, user: string, signal: AbortSignal, hold: (signal: AbortSignal) => Promise<void>) {
    this.#of = of;
    this.#hold = hold;
    this.#signal = signal;
    this.#name = `creditsd ${of.transport.name} ${user}`;
    this.#askMs = of.settings.silenceMs / 8;
    this.#asking = child(signal);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<Message | Hello>) => this.#heard(data);
  }

  say = (message: Message | Hello): void => {
    if (!this.#signal.aborted) this.#channel.postMessage(message);
  };

  /** Say all there is to say: the total, and for a leader how the line stands. */
  tell(): void {
    const { status, error, confirmed: total } = this.#of.state.snapshot;
    this.say({ total, status, error: error && { kind: error.kind, message: error.message }, tabs: this.#tabs });
  }

  hello(eager: boolean): void {
    if (!this.#leading) this.say({ eager });
  }

  /** Wait for the lock, lead while it is held, and ask again where it was taken away. */
  async stay(): Promise<void> {
    const watch = setInterval(() => this.#watch(), this.#askMs);
    this.hello(false);
    try {
      while (!this.#signal.aborted) {
        const reign = (this.#asking = child(this.#signal));
        const options: LockOptions = this.#steal ? { steal: true } : { signal: reign.signal };
        this.#steal = false;
        try {
          await navigator.locks.request(this.#name, options, () => this.#lead(reign.signal));
          return;
        } catch (error) {
          // Given up waiting, or another tab took the lock. Anything else: this page may have no locks after all.
          if ((error as Error).name !== "AbortError") return await this.#hold(this.#signal);
        } finally {
          this.#leading = false;
          this.#unanswered = 0;
          reign.abort();
        }
      }
    } finally {
      clearInterval(watch);
      // The signal has ended the talk already; who stays wants to know how many are left.
      this.#channel.postMessage({ eager: false } satisfies Hello);
      this.#channel.close();
      this.say = () => {};
      this.#of.state.note({ tabs: 1, leading: false });
    }
  }

  async #lead(signal: AbortSignal): Promise<void> {
    this.#leading = true;
    this.#unanswered = 0;
    this.#count();
    // Not `lead` alone: a tab about to be frozen has no time to wait until that has tidied up.
    await Promise.race([this.#hold(signal), aborted(signal)]);
  }

  #heard(data: Message | Hello): void {
    if (this.#signal.aborted) return;
    if (!("eager" in data)) {
      if (data.status) this.#unanswered = 0;
      return this.#hear(data);
    }
    if (!this.#leading) return;
    if (data.eager) this.#of.rests.end();
    this.tell();
    setTimeout(() => this.#count(), COUNT_MS);
  }

  #hear({ total, status, error, tabs }: Message): void {
    const { state } = this.#of;
    if (isTotal(total)) state.accept(total);
    if (tabs) state.note({ tabs, leading: false });
    if (status) state.stand(status, error && new CreditsError(error.kind, error.message));
  }

  /** A leader that the browser froze or that hangs holds its lock all the same. Who is looked at takes it over. */
  #watch(): void {
    if (this.#leading) this.#count();
    this.#unanswered = this.#leading || !looking() ? 0 : this.#unanswered + 1;
    if (this.#unanswered > UNANSWERED) {
      this.#steal = true;
      this.#asking.abort();
      // A leader that nobody looks at reads seldom, unless it is asked to.
    } else if (this.#unanswered > 0) this.hello(this.#of.state.snapshot.status === "polling");
  }

  /** Count who holds the lock or waits for it: a tab that crashed does neither. */
  async #count(): Promise<void> {
    if (!this.#leading) return;
    const { held = [], pending = [] } = await navigator.locks.query().catch((): LockManagerSnapshot => ({}));
    const tabs = [...held, ...pending].filter(({ name }) => name === this.#name).length;
    if (!this.#leading || this.#signal.aborted || tabs === 0) return;
    this.#of.state.note({ tabs, leading: true });
    if (tabs === this.#tabs) return;
    this.#tabs = tabs;
    this.say({ tabs });
  }
}
