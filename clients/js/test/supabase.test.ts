import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { createClient, type SupabaseClient } from "@supabase/supabase-js";

import { createCreditsClient, type CreditsClient, type CreditsClientOptions } from "../src/index.ts";
import { readHistory } from "../src/history.ts";
import { supabaseCredits } from "../src/supabase.ts";
import { createCreditsStore } from "../src/zustand.ts";
import { total } from "./counterpart.ts";
import { Project, session } from "./supabase-project.ts";
import { credits, eventually, nothing, status, until } from "./waiting.ts";

async function project(t: TestContext): Promise<Project> {
  const made = await new Project().open();
  t.after(() => made.close());
  return made;
}

/** supabase-js, signed in as somebody; its own storage is what a browser's would be. */
async function signedIn({ url }: Project, user: string | null): Promise<SupabaseClient> {
  const kept = new Map<string, string>();
  const key = "sb-test-auth-token";
  if (user) kept.set(key, JSON.stringify(session(user)));
  const storage = { getItem: (name: string) => kept.get(name) ?? null, setItem: (name: string, text: string) => void kept.set(name, text), removeItem: (name: string) => void kept.delete(name) };
  const supabase = createClient(url, "sb_publishable_test", { auth: { storage, storageKey: key, autoRefreshToken: false, detectSessionInUrl: false } });
  return supabase;
}

function client(t: TestContext, supabase: SupabaseClient, options: Partial<CreditsClientOptions> = {}): CreditsClient {
  const made = createCreditsClient({ ...supabaseCredits(supabase), maxRetryMs: 100, storage: null, ...options });
  t.after(() => leave(made, supabase));
  return made;
}

/** Leave no timer of supabase-js behind: first the topic, then the socket. */
async function leave(made: CreditsClient, supabase: SupabaseClient): Promise<void> {
  made.close();
  await supabase.removeAllChannels();
  await supabase.realtime.disconnect();
}

const TOPIC = "realtime:credits:ann";

test("the total is read when the topic is joined, and then comes by it", async (t) => {
  const base = await project(t);
  base.set({ ...total("ann", 5, 100), expires_at: "2035-01-01T00:00:00+00:00" });
  const ann = client(t, await signedIn(base, "ann"));
  ann.subscribe(nothing);
  const { total: first } = await until(ann, status("live"));
  assert.deepEqual(
    [first?.credits, first?.membershipStatus, first?.planType, first?.canBuy, first?.message],
    [100, "active", "subscription", false, "You have 100 credits; Pro runs until 2035-01-01."],
  );
  assert.deepEqual([...base.members.keys()], [TOPIC]);
  base.set(total("ann", 6, 90));
  await until(ann, credits(90));
  base.set(total("bob", 7, 1));
  ann.optimistic(-5);
  assert.equal(ann.total?.credits, 85);
});

test("whether credits are low is told where the project has a threshold", async (t) => {
  const base = await project(t);
  base.set({ ...total("ann", 5, 8), level: "low", low_credits: 10 });
  const ann = client(t, await signedIn(base, "ann"));
  ann.subscribe(nothing);
  const { total: first } = await until(ann, status("live"));
  assert.deepEqual([first?.level, first?.low_credits], ["low", 10]);
  base.set({ ...total("ann", 6, 90), level: null, low_credits: 10 }, { send: false });
  base.drop();
  await until(ann, credits(90));
  assert.deepEqual([ann.total?.level, ann.total?.low_credits], [null, 10]);
  base.set(total("ann", 7, 80), { send: false });
  base.drop();
  await until(ann, credits(80));
  assert.ok(!("level" in ann.total!) && !("low_credits" in ann.total!));
});

test("what was sent while the line was away is read when it is back", async (t) => {
  const base = await project(t);
  base.set(total("ann", 5, 100));
  const ann = client(t, await signedIn(base, "ann"));
  ann.subscribe(nothing);
  await until(ann, status("live"));
  base.drop();
  base.set(total("ann", 6, 90), { send: false });
  await until(ann, credits(90));
  await eventually(() => base.members.has(TOPIC));
  base.set(total("ann", 7, 80));
  await until(ann, credits(80));
});

test("tabs share one channel, and the store works over it", async (t) => {
  const base = await project(t);
  base.set(total("ann", 5, 100));
  const [one, two] = [client(t, await signedIn(base, "ann")), client(t, await signedIn(base, "ann"))];
  const store = createCreditsStore(one);
  t.after(store.subscribe(nothing));
  await until(one, status("live"));
  two.subscribe(nothing);
  await Promise.all([until(two, credits(100)), until(two, ({ tabs }) => tabs === 2)]);
  assert.equal(base.members.get(TOPIC)?.size, 1);
  base.set(total("ann", 6, 90));
  await Promise.all([until(one, credits(90)), until(two, credits(90))]);
  assert.equal(store.getState().getCreatorCredits?.credits, 90);
  await store.getState().refreshCreatorCredits();
});

test("who has no row has no credits, and who is signed out is told so", async (t) => {
  const base = await project(t);
  const ann = client(t, await signedIn(base, "ann"));
  const read = await ann.refetch();
  assert.deepEqual([read.credits, read.membershipStatus, read.message], [0, "none", "You have no credits and no plan."]);
  const nobody = client(t, await signedIn(base, null));
  await assert.rejects(nobody.refetch(), { kind: "signed_out" });
});

test("a token that has ended is refreshed by Auth", async (t) => {
  const base = await project(t);
  base.set(total("ann", 5, 100));
  const supabase = await signedIn(base, "ann");
  const { transport, getToken } = supabaseCredits(supabase);
  assert.match(String(await getToken({ fresh: true })), /^ey/);
  assert.ok(base.asked.includes("POST /auth/v1/token"));
  assert.equal(transport.name, `supabase:${base.url}:creditsd`);
});

test("a schema that is not exposed is named, and a topic that is refused too", async (t) => {
  const base = await project(t);
  base.exposed = false;
  const ann = client(t, await signedIn(base, "ann"));
  await assert.rejects(ann.refetch(), { kind: "not_configured", message: "Invalid schema: creditsd" });
  base.exposed = true;
  base.set(total("ann", 5, 100));
  const supabase = await signedIn(base, "ann");
  const other = createCreditsClient({ ...supabaseCredits(supabase, { topic: () => "credits:bob" }), storage: null, maxRetryMs: 100, pollMs: 30 });
  t.after(() => leave(other, supabase));
  other.subscribe(nothing);
  const { error } = await until(other, ({ error: met }) => met);
  assert.match(`${error?.kind}: ${error?.message}`, /^forbidden: Unauthorized: You do not have permissions/);
});

test("while Realtime is away the total is read", async (t) => {
  const base = await project(t);
  base.set(total("ann", 5, 100));
  const supabase = await signedIn(base, "ann");
  t.mock.method(supabase.realtime, "connect", nothing);
  const ann = client(t, supabase, { patienceMs: 30, pollMs: 30 });
  ann.subscribe(nothing);
  await until(ann, status("polling"));
  base.set(total("ann", 6, 90));
  await until(ann, credits(90));
});

test("history is read by pages, each user's own", async (t) => {
  const base = await project(t);
  for (let version = 1; version <= 5; version++) base.set(total("ann", version, version * 10));
  base.set(total("bob", 6, 1));
  const ann = client(t, await signedIn(base, "ann"));
  const first = await readHistory(ann, 2);
  assert.deepEqual([first!.steps.map(({ credits: amount, cause }) => `${amount} ${cause}`), first!.cursor], [["50 change", "40 change"], "4"]);
  const rest = await readHistory(ann, 10, first!.cursor!);
  assert.deepEqual([rest!.steps.map(({ credits: amount }) => amount), rest!.cursor], [[30, 20, 10], null]);
});
