/** Who is signed in: as `getToken` says, as other tabs say, and what is kept of them. */

import { CreditsError } from "./errors.ts";
import { memory } from "./memory.ts";
import type { Token } from "./options.ts";
import type { Parts } from "./parts.ts";
import { standing } from "./state.ts";
import { within } from "./timing.ts";
import { subject } from "./token.ts";
import type { Total } from "./total.ts";

/** What tabs tell each other: who has come, or gone. */
interface News {
  readonly user: string | null | undefined;
  readonly out: boolean;
}

export interface Identity {
  /** The token's `sub`, empty where it has none; null: nobody; undefined: not known yet. */
  readonly user: string | null | undefined;
  /** Grows with every restart: what was asked for in an earlier era is of no use in this one. */
  readonly era: number;
  /** Tell other tabs who comes and goes here, and hear of theirs. */
  open(): void;
  close(): void;
  /** Ask for a token, and take note of whose it is. Raises CreditsError, having said so in the state. */
  token(fresh: boolean): Promise<string>;
  /** Raises CreditsError where somebody else has signed in since. */
  sure(era: number, user?: string | null): void;
  /** Ask again who is signed in; what goes wrong is found by whoever needs the token next. */
  check(fresh: boolean, failed?: () => void): Promise<void>;
  /** Somebody may have signed in or out. Who does not say in time who it is, is not shown what the one before had. */
  restart(): void;
  /** Forget whoever is signed in, here, in storage and in all tabs. */
  signOut(): void;
  /** Whether a total is of the user we know. The server may write an id in small letters that the token has in capitals. */
  owns(total: Total): boolean;
  keep(total: Total): void;
}

/** Find out who that is, beginning with nobody known. */
export function identify({ transport, settings, state, rests, ended, over }: Parts): Identity {
  let user: Identity["user"];
  let era = 0;
  const shelf = memory(transport.name, settings.storage);
  /** Who has signed out, and is not let in again before a restart; true: whoever it was. */
  let gone: string | true | undefined;
  let tabs: BroadcastChannel | undefined;

  const say = (who: News["user"], out: boolean): void => tabs?.postMessage({ user: who, out } satisfies News);

  const open = (): void => {
    if (tabs || !globalThis.BroadcastChannel) return;
    tabs = new BroadcastChannel(`creditsd:${transport.name}`);
    tabs.onmessage = heard;
  };

  const close = (): void => {
    tabs?.close();
    tabs = undefined;
  };

  /** Call `getToken`; what fails or takes too long rejects. */
  const give = (fresh: boolean): Promise<Token> => within(2 * settings.timeoutMs, ended.signal, async () => settings.getToken({ fresh }));

  const owns = (total: Total): boolean => {
    // Before anybody is known it may be what the page was rendered with; after a restart it may be the one before's.
    if (user === undefined) return !era;
    return user === "" || total.user_id.toLowerCase() === user?.toLowerCase();
  };

  /** Whatever was another user's is forgotten, and its session ends. */
  const become = (now: string | null): void => {
    if (now === user) return;
    const first = user === undefined;
    user = now;
    if (!first || (state.truth && !owns(state.truth))) state.forget();
    if (!first) over();
    if (user) say(user, false);
    shelf.recall(user, (total, at) => {
      if (now === user) state.accept(total, at);
    });
  };

  /** Take note of whose token it is; false for nobody's, and for that of one who has just signed out. */
  const note = (token: Token): boolean => {
    const now = token ? subject(token) : null;
    const here = now !== null && gone !== true && now !== gone;
    become(here ? now : null);
    return here;
  };

  const sure: Identity["sure"] = (then, who = user) => {
    if (then !== era || who !== user) throw new CreditsError("switched", "another user signed in");
  };

  const check = async (fresh: boolean, failed?: () => void): Promise<void> => {
    const then = era;
    try {
      const token = await give(fresh);
      if (then === era) note(token);
    } catch {
      if (then === era) failed?.();
    }
  };

  const leave = (): void => {
    gone = user ?? true;
    era++;
    user = null;
    shelf.forget();
    state.forget();
    if (state.current.status !== "idle") state.stand("signed_out");
    over();
  };

  const heard = ({ data: { user: who, out } }: MessageEvent<News>): void => {
    if (out && (user === undefined || who === user)) leave();
    if (out) return;
    if (who === gone) gone = undefined;
    const known = user;
    // A token that is kept may be of the one who was here before.
    if (who !== known) void check(true).then(() => known !== user && rests.end());
  };

  return {
    get user() {
      return user;
    },
    get era() {
      return era;
    },
    open, close, owns, sure, check,

    async token(fresh) {
      const then = era;
      let token: Token;
      try {
        token = await give(fresh);
      } catch (cause) {
        const error = new CreditsError("token", (cause as Error | undefined)?.message ?? "getToken failed", { cause });
        if (then === era) state.stand(standing(error), error);
        throw error;
      }
      // Asked for before somebody else signed in: it may be the token of the one who left.
      sure(then);
      if (note(token)) return token!;
      state.stand("signed_out");
      throw new CreditsError("signed_out", "nobody is signed in");
    },

    restart() {
      era++;
      gone = undefined;
      void check(false, () => state.forget());
    },

    signOut() {
      const here = tabs;
      open();
      say(user, true);
      if (!here) close();
      leave();
    },

    keep(total) {
      if (user) shelf.keep(user, total);
    },
  };
}
