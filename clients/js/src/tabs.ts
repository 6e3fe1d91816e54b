/** All tabs of one user as a group: one of them, the leader, holds the connection and tells the others. */

import type { CreditsErrorKind } from "./errors.ts";
import { looking } from "./page.ts";
import type { Status } from "./state.ts";
import { aborted, child } from "./timing.ts";
import type { Total } from "./total.ts";

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

export interface Tab {
  /** Hold the connection until the signal. To return earlier is to leave the group. */
  lead(signal: AbortSignal): Promise<void>;
  hear(message: Message): void;
  /** What a leader answers a tab that has just come. */
  tell(): Message;
  /** Somebody asks to try now. */
  nudge(): void;
  /** How many share, and whether this one leads. */
  counted(tabs: number, leading: boolean): void;
}

export interface Group {
  say(message: Message): void;
  hello(eager: boolean): void;
}

/** How many questions of a visible follower may stay unanswered. */
const UNANSWERED = 3;

/** Tell whether this browser lets tabs find each other; where it does not, each has a connection of its own. */
export function sharing(): boolean {
  return typeof BroadcastChannel === "function" && typeof navigator === "object" && !!navigator.locks;
}

/** How long after it came or went a tab is counted: the lock of one that has just come may not be asked for yet. */
const COUNT_MS = 50;

/**
 * Belong to the group of this name until the signal, or until `lead` returns; `joined` is given the way to talk. A visible
 * follower makes sure every `askMs` that there is a leader.
 */
export async function belong(name: string, signal: AbortSignal, askMs: number, tab: Tab, joined: (group: Group) => void): Promise<void> {
  const member = new Member(name, signal, askMs, tab);
  joined(member);
  await member.stay();
}

class Member implements Group {
  readonly #name: string;
  readonly #signal: AbortSignal;
  readonly #askMs: number;
  readonly #tab: Tab;
  readonly #channel: BroadcastChannel;
  #leading = false;
  #unanswered = 0;
  #steal = false;
  /** While this tab asks for the lock or holds it. */
  #asking: AbortController;
  #tabs = 0;

  constructor(name: string, signal: AbortSignal, askMs: number, tab: Tab) {
    this.#name = name;
    this.#signal = signal;
    this.#askMs = askMs;
    this.#tab = tab;
    this.#asking = child(signal);
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<Message | Hello>) => this.#heard(data);
  }

  say = (message: Message | Hello): void => {
    if (!this.#signal.aborted) this.#channel.postMessage(message);
  };

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
          if ((error as Error).name !== "AbortError") return await this.#tab.lead(this.#signal);
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
      this.#tab.counted(1, false);
    }
  }

  async #lead(signal: AbortSignal): Promise<void> {
    this.#leading = true;
    this.#unanswered = 0;
    this.#count();
    // Not `lead` alone: a tab about to be frozen has no time to wait until that has tidied up.
    await Promise.race([this.#tab.lead(signal), aborted(signal)]);
  }

  #heard(data: Message | Hello): void {
    if (this.#signal.aborted) return;
    if (!("eager" in data)) {
      if (data.status) this.#unanswered = 0;
      if (data.tabs) this.#tab.counted(data.tabs, false);
      return this.#tab.hear(data);
    }
    if (!this.#leading) return;
    if (data.eager) this.#tab.nudge();
    this.say({ ...this.#tab.tell(), ...(this.#tabs && { tabs: this.#tabs }) });
    setTimeout(() => this.#count(), COUNT_MS);
  }

  /** A leader that the browser froze or that hangs holds its lock all the same. Who is looked at takes it over. */
  #watch(): void {
    if (this.#leading) this.#count();
    this.#unanswered = this.#leading || !looking() ? 0 : this.#unanswered + 1;
    if (this.#unanswered > UNANSWERED) {
      this.#steal = true;
      this.#asking.abort();
      // A leader that nobody looks at reads seldom, unless it is asked to.
    } else if (this.#unanswered > 0) this.hello(this.#tab.tell().status === "polling");
  }

  /** Count who holds the lock or waits for it: a tab that crashed does neither. */
  async #count(): Promise<void> {
    if (!this.#leading) return;
    const { held = [], pending = [] } = await navigator.locks.query().catch((): LockManagerSnapshot => ({}));
    const tabs = [...held, ...pending].filter(({ name }) => name === this.#name).length;
    if (!this.#leading || this.#signal.aborted || tabs === 0) return;
    this.#tab.counted(tabs, true);
    if (tabs === this.#tabs) return;
    this.#tabs = tabs;
    this.say({ tabs });
  }
}
