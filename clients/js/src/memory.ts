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

export interface Memory {
  /** Give what is known of a user, and forget anybody else. */
  recall(user: string | null, found: (total: Total, at: number) => void): void;
  keep(user: string, total: Total): void;
  forget(): void;
}

/** Make one place for one user: whoever comes next takes it, because on a shared computer they are other people. */
export function memory(name: string, given: Shelf | null | undefined): Memory {
  const key = `creditsd:${name}`;

  /** Storage may be missing, full, forbidden or filled by somebody else; the line does not depend on it. */
  const use = async (act: (shelf: Shelf) => unknown): Promise<void> => {
    try {
      const shelf = given === undefined ? globalThis.window?.localStorage : given;
      if (shelf) await act(shelf);
    } catch {
      // As above.
    }
  };

  const forget = (): void => void use((shelf) => shelf.removeItem(key));

  return {
    recall: (user, found) => void use(async (shelf) => {
      const kept = JSON.parse((await shelf.getItem(key))!) as Kept | null;
      if (kept?.user !== user) forget();
      else if (isTotal(kept?.total)) found(kept.total, kept.at);
    }),
    keep: (user, total) => void use((shelf) => shelf.setItem(key, JSON.stringify({ user, total, at: Date.now() } satisfies Kept))),
    forget,
  };
}
