/** Who is signed in: as `getToken` says, as other tabs say, and what is kept of them. */

import { CreditsError } from "./errors.ts";
import { Memory } from "./memory.ts";
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

export class Identity {
  /** The token's `sub`, empty where it has none; null: nobody; undefined: not known yet. */
  user: string | null | undefined;
  /** Grows with every restart: what was asked for in an earlier era is of no use in this one. */
  era = 0;
  readonly #of: Parts;
  readonly #memory: Memory;
  /** Who has signed out, and is not let in again before a restart; true: whoever it was. */
  #out: string | true | undefined;
  #tabs: BroadcastChannel | undefined;

  constructor(of: Parts) {
    this.#of = of;
    this.#memory = new Memory(of.transport.name, of.settings.storage);
  }

  /** Tell other tabs who comes and goes here, and hear of theirs. */
  open(): void {
    if (this.#tabs || typeof BroadcastChannel !== "function") return;
    this.#tabs = new BroadcastChannel(`creditsd accounts ${this.#of.transport.name}`);
    this.#tabs.onmessage = ({ data }: MessageEvent<News>) => this.#heard(data);
  }

  close(): void {
    this.#tabs?.close();
    this.#tabs = undefined;
  }

  /** Ask for a token, and take note of whose it is. Raises CreditsError, having said so in the state. */
  async token(fresh: boolean): Promise<string> {
    const { state } = this.#of;
    const { era } = this;
    let token: Token;
    try {
      token = await this.#give(fresh);
    } catch (cause) {
      const error = new CreditsError("token", (cause as Error | undefined)?.message ?? "getToken failed", { cause });
      if (era === this.era) state.stand(standing(error), error);
      throw error;
    }
    // Asked for before somebody else signed in: it may be the token of the one who left.
    this.sure(era);
    if (this.#note(token)) return token!;
    state.stand("signed_out");
    throw new CreditsError("signed_out", "nobody is signed in");
  }

  /** Raises CreditsError where somebody else has signed in since. */
  sure(era: number, user = this.user): void {
    if (era !== this.era || user !== this.user) throw new CreditsError("switched", "another user signed in");
  }

  /** Ask again who is signed in; what goes wrong is found by whoever needs the token next. */
  async check(fresh: boolean, failed = (): void => {}): Promise<void> {
    const { era } = this;
    try {
      const token = await this.#give(fresh);
      if (era === this.era) this.#note(token);
    } catch {
      if (era === this.era) failed();
    }
  }

  /** Somebody may have signed in or out. Who does not say in time who it is, is not shown what the one before had. */
  restart(): void {
    this.era++;
    this.#out = undefined;
    void this.check(false, () => this.#of.state.forget());
  }

  /** Forget whoever is signed in, here, in storage and in all tabs. */
  signOut(): void {
    const { user } = this;
    const here = this.#tabs;
    this.open();
    this.#say(user, true);
    if (!here) this.close();
    this.#leave();
  }

  /** Whether a total is of the user we know. The server may write an id in small letters that the token has in capitals. */
  owns(total: Total): boolean {
    // Before anybody is known it may be what the page was rendered with; after a restart it may be the one before's.
    if (this.user === undefined) return !this.era;
    return this.user === "" || total.user_id.toLowerCase() === this.user?.toLowerCase();
  }

  keep(total: Total): void {
    if (this.user) this.#memory.keep(this.user, total);
  }

  #say(user: News["user"], out: boolean): void {
    this.#tabs?.postMessage({ user, out } satisfies News);
  }

  /** Call `getToken`; what fails or takes too long rejects. */
  #give(fresh: boolean): Promise<Token> {
    const { settings, ended } = this.#of;
    return within(2 * settings.timeoutMs, ended.signal, async () => settings.getToken({ fresh }));
  }

  /** Take note of whose token it is; false for nobody's, and for that of one who has just signed out. */
  #note(token: Token): boolean {
    const user = token ? subject(token) : null;
    const here = user !== null && this.#out !== true && user !== this.#out;
    this.#become(here ? user : null);
    return here;
  }

  /** Whatever was another user's is forgotten, and its session ends. */
  #become(user: string | null): void {
    if (user === this.user) return;
    const { state } = this.#of;
    const first = this.user === undefined;
    this.user = user;
    if (!first || (state.truth && !this.owns(state.truth))) state.forget();
    if (!first) this.#of.over();
    if (user) this.#say(user, false);
    this.#memory.recall(user, (total, at) => {
      if (user === this.user) state.accept(total, at);
    });
  }

  #heard({ user, out }: News): void {
    if (out && (this.user === undefined || user === this.user)) this.#leave();
    if (out) return;
    if (user === this.#out) this.#out = undefined;
    const known = this.user;
    // A token that is kept may be of the one who was here before.
    if (user !== known) void this.check(true).then(() => known !== this.user && this.#of.rests.end());
  }

  #leave(): void {
    this.#out = this.user ?? true;
    this.era++;
    this.user = null;
    this.#memory.forget();
    const { state } = this.#of;
    state.forget();
    if (state.snapshot.status !== "idle") state.stand("signed_out");
    this.#of.over();
  }
}
