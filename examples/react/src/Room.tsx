import { useCreditsClient, useRealtimeCredits } from "creditsd/react";
import { useState } from "react";

import { Light } from "./Light.tsx";
import { Meter } from "./Meter.tsx";
import { type Line, Receipt } from "./Receipt.tsx";
import { type Act, act, type Customer } from "./shop.ts";
import { Toasts, useToasts } from "./Toasts.tsx";

const PRICE = 5;
/** What a full meter stands for, until somebody has more. */
const ALLOWANCE = 500;
const LOW = 25;

const signed = (amount: number): string => `${amount > 0 ? "+" : "−"}${Math.abs(amount).toLocaleString("en")}`;

interface Props {
  readonly customer: Customer;
  readonly all: readonly Customer[];
  readonly choose: (user_id: string) => void;
}

export function Room({ customer, all, choose }: Props) {
  const client = useCreditsClient();
  const [lines, setLines] = useState<readonly Line[]>([]);
  const { toasts, toast } = useToasts();
  const { credits, isLoading, isSubscribed, status, error, refetch } = useRealtimeCredits({
    onCreditsUpdate: (now, before) => {
      if (!before) return;
      const change = now.credits - before.credits;
      if (change !== 0) toast(`${signed(change)} credits`, change > 0 ? "good" : "plain");
      const text = change === 0 ? "no credits changed" : change > 0 ? "credits added" : "credits gone";
      setLines((known) => [{ version: now.version, at: new Date(), change, left: now.credits, text }, ...known].slice(0, 9));
    },
  });

  const press = async (what: Act): Promise<void> => {
    // Shown at once; the next newer total from the server replaces it.
    const undo = what === "spend" ? client.optimistic(-PRICE) : () => {};
    try {
      if (await act(what, customer.user_id)) return;
      toast("There is nothing to do that with.", "bad");
    } catch (problem) {
      toast((problem as Error).message, "bad");
    }
    undo();
  };

  const left = credits?.credits ?? 0;
  const low = credits !== null && left < LOW;
  return (
    <div className="room">
      <header>
        <h1>Print room</h1>
        <label>
          <span className="unseen">Customer</span>
          <select value={customer.user_id} onChange={({ target }) => choose(target.value)}>
            {all.map(({ user_id, name }) => <option key={user_id} value={user_id}>{name}</option>)}
          </select>
        </label>
        <Light status={status} live={isSubscribed} />
      </header>

      {low && (
        <section className="low" role="status">
          <p>{left < PRICE ? "Not enough for another print." : `Enough for ${Math.floor(left / PRICE)} more prints.`}</p>
          <button type="button" onClick={() => void press("buy")}>Buy a pack</button>
        </section>
      )}

      <main>
        <section className="balance" aria-busy={isLoading}>
          <Meter amount={credits?.credits} full={Math.max(ALLOWANCE, left)} low={low} />
          <p className="message">{credits?.message ?? error ?? "Reading your credits …"}</p>
          <div className="acts">
            <button type="button" className="first" disabled={!credits || left < PRICE} onClick={() => void press("spend")}>
              Print for {PRICE}
            </button>
            <button type="button" onClick={() => void press("buy")}>Buy a pack</button>
            <button type="button" onClick={() => void press("renew")}>Renew</button>
            <button type="button" onClick={() => void press("expire")}>Let it run out</button>
          </div>
        </section>
        <Receipt lines={lines} name={customer.name} plan={credits?.membership ?? "no plan"} />
      </main>

      <footer>
        <a href={`?customer=${customer.user_id}`} target="_blank" rel="noreferrer">Open another tab</a>
        <button type="button" className="quiet" onClick={() => void refetch()}>Read again</button>
        {error && <span className="error">{error}</span>}
      </footer>
      <Toasts toasts={toasts} />
    </div>
  );
}
