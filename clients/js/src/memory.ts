/** The last known total of one user in local storage: what to show while the network is away. */

import { isTotal, type Total } from "./total.ts";

export type Shelf = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

export class Memory {
  readonly #prefix: string;
  readonly #shelf: Shelf | null;

  constructor(url: string, shelf: Shelf | null) {
    this.#prefix = `creditsd:${url}:`;
    this.#shelf = shelf;
  }

  /** Return what is known of a user, and forget everybody else: on a shared computer they are other people. */
  recall(user: string): Total | null {
    return attempt(() => {
      const shelf = this.#shelf!;
      const mine = this.#prefix + user;
      const keys = Array.from({ length: shelf.length }, (_, index) => shelf.key(index)!);
      for (const key of keys) if (key.startsWith(this.#prefix) && key !== mine) shelf.removeItem(key);
      const total = user ? JSON.parse(shelf.getItem(mine)!) as unknown : null;
      return isTotal(total) ? total : null;
    });
  }

  /** Keep a total, unless another tab has kept a newer one. */
  keep(user: string, total: Total): void {
    if (!user) return;
    attempt(() => {
      const key = this.#prefix + user;
      const kept = JSON.parse(this.#shelf!.getItem(key)!) as Total | null;
      if (!kept || kept.version < total.version) this.#shelf!.setItem(key, JSON.stringify(total));
    });
  }
}

/** Find local storage; a browser may refuse it, and a server has none. */
export function localShelf(): Shelf | null {
  return attempt(() => (typeof window === "undefined" ? null : window.localStorage));
}

/** Storage may be missing, full, forbidden or filled by somebody else; the line does not depend on it. */
function attempt<T>(use: () => T): T | null {
  try {
    return use();
  } catch {
    return null;
  }
}
