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
  return !!(globalThis.BroadcastChannel && globalThis.navigator?.locks);
}

/** How long after it came or went a tab is counted: the lock of one that has just come may not be asked for yet. */
const COUNT_MS = 50;

export interface Member {
  say(message: Message): void;
  /** Say all there is to say: the total, and for a leader how the line stands. */
  tell(): void;
  /** Ask the leader how the line stands, if that is another tab. */
  hello(eager: boolean): void;
  /** Wait for the lock, lead while it is held, and ask again where it was taken away. */
  stay(): Promise<void>;
}

/**
 * Make this tab one of its user's group, until the signal, or until `hold` returns: it holds the connection until its signal.
 * A visible follower makes sure every now and then that there is a leader.
 */
export function member({ transport, settings, state, rests }: Parts, user: string, over: AbortSignal, hold: (reign: AbortSignal) => Promise<void>): Member {
  const name = `creditsd ${transport.name} ${user}`;
  const channel = new BroadcastChannel(name);
  let leading = false;
  let unanswered = 0;
  let steal = false;
  /** While this tab asks for the lock or holds it. */
  let asking: AbortController;
  let tabs = 0;

  let say = (message: Message | Hello): void => {
    if (!over.aborted) channel.postMessage(message);
  };

  const tell = (): void => {
    const { status, error, confirmed: total } = state.current;
    say({ total, status, error: error && { kind: error.kind, message: error.message }, tabs });
  };

  const hello = (eager: boolean): void => {
    if (!leading) say({ eager });
  };

  /** Count who holds the lock or waits for it: a tab that crashed does neither. */
  const count = async (): Promise<void> => {
    if (!leading) return;
    const { held = [], pending = [] } = await navigator.locks.query().catch((): LockManagerSnapshot => ({}));
    const found = [...held, ...pending].filter((lock) => lock.name === name).length;
    if (!leading || over.aborted || found === 0) return;
    state.note({ tabs: found, leading });
    if (found === tabs) return;
    tabs = found;
    say({ tabs });
  };

  channel.onmessage = ({ data }: MessageEvent<Message | Hello>) => {
    if (over.aborted) return;
    if ("eager" in data) {
      if (!leading) return;
      if (data.eager) rests.end();
      tell();
      setTimeout(count, COUNT_MS);
      return;
    }
    const { total, status, error, tabs: told } = data;
    if (isTotal(total)) state.accept(total);
    if (told) state.note({ tabs: told, leading: false });
    if (!status) return;
    unanswered = 0;
    state.stand(status, error && new CreditsError(error.kind, error.message));
  };

  /** A leader that the browser froze or that hangs holds its lock all the same. Who is looked at takes it over. */
  const watch = (): void => {
    void count();
    unanswered = leading || !looking() ? 0 : unanswered + 1;
    if (unanswered > UNANSWERED) {
      steal = true;
      asking.abort();
      // A leader that nobody looks at reads seldom, unless it is asked to.
    } else if (unanswered > 0) hello(state.current.status === "polling");
  };

  const lead = async (reign: AbortSignal): Promise<void> => {
    leading = true;
    void count();
    // Not `hold` alone: a tab about to be frozen has no time to wait until that has tidied up.
    await Promise.race([hold(reign), aborted(reign)]);
  };

  const stay = async (): Promise<void> => {
    const watching = setInterval(watch, settings.silenceMs / 8);
    hello(false);
    try {
      while (!over.aborted) {
        const { signal } = (asking = child(over));
        const options: LockOptions = steal ? { steal } : { signal };
        steal = false;
        try {
          await navigator.locks.request(name, options, () => lead(signal));
          return;
        } catch (error) {
          // Given up waiting, or another tab took the lock. Anything else: this page may have no locks after all.
          if ((error as Error).name !== "AbortError") return await hold(over);
        } finally {
          leading = false;
          unanswered = 0;
          asking.abort();
        }
      }
    } finally {
      clearInterval(watching);
      // The signal has ended the talk already; who stays wants to know how many are left.
      channel.postMessage({ eager: false } satisfies Hello);
      channel.close();
      say = () => {};
      state.note({ tabs: 1, leading: false });
    }
  };

  return { say: (message) => say(message), tell, hello, stay };
}
