/** Waiting for what a client comes to show. */

import assert from "node:assert/strict";
import type { TestContext } from "node:test";

import { type CreditsClient, type CreditsClientOptions, createCreditsClient, type Snapshot } from "../src/index.ts";
import { Counterpart, tokenOf } from "./counterpart.ts";

/** Resolve with the first snapshot that holds, or fail after ten seconds. */
export function until(client: CreditsClient, holds: (snapshot: Snapshot) => unknown): Promise<Snapshot> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new assert.AssertionError({ message: `not so within 10 s: ${JSON.stringify(client.snapshot())}` })), 10_000);
    const leave = client.subscribe(look, { live: false });
    function look(snapshot: Snapshot): void {
      if (!holds(snapshot)) return;
      clearTimeout(late);
      queueMicrotask(() => leave());
      resolve(snapshot);
    }
    look(client.snapshot());
  });
}

export const credits = (wanted: number) => ({ total }: Snapshot): boolean => total?.credits === wanted;
export const status = (wanted: string) => (snapshot: Snapshot): boolean => snapshot.status === wanted;

/** Read a datum until it holds; only for what nobody announces. */
export async function eventually(holds: () => unknown): Promise<void> {
  for (const end = Date.now() + 10_000; !holds(); ) {
    assert.ok(Date.now() < end, `not so within 10 s: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Local storage for a test. */
export class Shelf extends Map<string, string> {
  getItem(key: string): string | null { return this.get(key) ?? null; }
  setItem(key: string, value: string): void { this.set(key, value); }
  removeItem(key: string): void { this.delete(key); }
}

/** Open a server for one test. */
export async function counterpart(t: TestContext): Promise<Counterpart> {
  const server = await new Counterpart().open();
  t.after(() => server[Symbol.asyncDispose]());
  return server;
}

/** Make Ann's client, or another's, for one test. */
export function client(t: TestContext, server: Counterpart, options: Partial<CreditsClientOptions> = {}): CreditsClient {
  const made = createCreditsClient({ url: server.url, getToken: () => tokenOf("ann"), maxRetryMs: 200, storage: null, ...options });
  t.after(() => made.close());
  return made;
}

export const STREAM = "/v1/me/credits/stream";
export const READ = "/v1/me/credits";
export const nothing = (): void => {};
