/** What an application does itself: sign people in, and write rows. Here `creditsd demo` plays that part. */

export interface Customer {
  readonly user_id: string;
  readonly name: string;
}

export type Act = "spend" | "buy" | "renew" | "expire";

export async function customers(): Promise<readonly Customer[]> {
  return answer(await fetch("/demo/customers"));
}

/** Get a token; what is kept is used again until creditsd refuses it. */
export async function signIn(user_id: string, fresh: boolean): Promise<string> {
  const kept = tokens.get(user_id);
  if (kept && !fresh) return kept;
  const { token } = await post<{ token: string }>("token", user_id);
  tokens.set(user_id, token);
  return token;
}

/** Do something that changes rows; false where there is nothing to do it with. */
export async function act(what: Act, user_id: string): Promise<boolean> {
  return (await post<{ done: boolean }>(what, user_id)).done;
}

const tokens = new Map<string, string>();

async function post<T>(path: string, user_id: string): Promise<T> {
  return answer(
    await fetch(`/demo/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user_id }),
    }),
  );
}

async function answer<T>(response: Response): Promise<T> {
  const body = await response.json().catch(() => null);
  if (!response.ok || !body?.success) throw new Error(body?.error ?? "The shop does not answer.");
  return body.data;
}
