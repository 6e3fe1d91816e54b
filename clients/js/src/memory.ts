/** The last known total of one user in local storage: what to show while the network is away. */

import { isTotal, type Total } from "./total.ts";

type Perhaps<T> = T | Promise<T>;

/** Local storage, or what is like it: React Native's AsyncStorage answers with promises. */
export interface Shelf {
  getItem(key: string): Perhaps<string | null>;
  setItem(key: string, value: string): Perhaps<unknown>;
  removeItem(key: string): Perhaps<unknown>;
}

interface Kept {
  readonly user: string;
  readonly total: Total;
  /** When the server last said so, in milliseconds since 1970. */
  readonly at: number;
}

/** One place for one user: whoever comes next takes it, because on a shared computer they are other people. */
export class Memory {
  readonly #key: string;
  readonly #shelf: Shelf | null | undefined;

  constructor(name: string, shelf: Shelf | null | undefined) {
    this.#key = `creditsd:${name}`;
    this.#shelf = shelf;
  }

  /** Give what is known of a user, and forget anybody else. */
  recall(user: string | null, found: (total: Total, at: number) => void): void {
    this.#do(async (shelf) => {
      const kept = JSON.parse((await shelf.getItem(this.#key))!) as Kept | null;
      if (kept?.user !== user) this.forget();
      else if (isTotal(kept?.total)) found(kept.total, kept.at);
    });
  }

  keep(user: string, total: Total): void {
    this.#do((shelf) => shelf.setItem(this.#key, JSON.stringify({ user, total, at: Date.now() } satisfies Kept)));
  }

  forget(): void {
    this.#do((shelf) => shelf.removeItem(this.#key));
  }

  /** Storage may be missing, full, forbidden or filled by somebody else; the line does not depend on it. */
  async #do(use: (shelf: Shelf) => unknown): Promise<void> {
    try {
      const shelf = this.#shelf === undefined ? globalThis.window?.localStorage : this.#shelf;
      if (shelf) await use(shelf);
    } catch {
      // As above.
    }
  }
}
