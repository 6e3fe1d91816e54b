import { readCredits } from "creditsd/server";

import { signIn } from "./actions";
import { Balance, Credits, Shop, Trend } from "./credits";
import { CREDITSD_URL, customer, customers } from "./shop";

export default async function Page() {
  const user = await customer();
  if (!user) {
    return (
      <main>
        <h1>Print room</h1>
        <form action={signIn}>
          <label>Customer <select name="customer">{(await customers()).map(({ user_id, name }) => <option key={user_id} value={user_id}>{name}</option>)}</select></label>
          <button type="submit">Sign in</button>
        </form>
      </main>
    );
  }
  // With a key the HTML has the number; without, or while the daemon is away, the browser reads it.
  const apiKey = process.env.CREDITSD_API_KEY;
  const total = apiKey ? await readCredits({ url: CREDITSD_URL, apiKey, userId: user.user_id }).catch(() => null) : null;
  return (
    <main>
      <h1>{user.name}</h1>
      <Credits userId={user.user_id} total={total}>
        <Balance />
        <Shop />
        <Trend />
      </Credits>
    </main>
  );
}
