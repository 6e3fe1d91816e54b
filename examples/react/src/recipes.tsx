/** The recipes of docs/cookbook.md, as they stand there. */

import { useCredits, useCreditsHistory, useRealtimeCredits } from "creditsd/react";

export function LowBanner({ below }: { readonly below: number }) {
  const left = useCredits(({ credits }) => credits);
  if (left === null || left >= below) return null;
  return <p role="alert" className="banner">{left > 0 ? `Only ${left} credits left.` : "No credits left."} <a href="/buy">Buy more</a></p>;
}

export function Used({ allowance }: { readonly allowance: number }) {
  const left = useCredits(({ credits }) => credits) ?? 0;
  const used = Math.min(allowance, Math.max(0, allowance - left));
  return (
    <label className="used">
      {used} of {allowance} used
      <progress max={allowance} value={used} />
    </label>
  );
}

export function Trend() {
  const { steps, hasMore, loadMore } = useCreditsHistory({ limit: 50 });
  const amounts = steps.map(({ credits }) => credits).reverse();
  const most = Math.max(1, ...amounts);
  const line = amounts.map((amount, index) => `${(index / Math.max(1, amounts.length - 1)) * 100},${30 - (amount / most) * 28}`).join(" ");
  return (
    <figure className="trend">
      <svg viewBox="0 0 100 31" preserveAspectRatio="none" role="img" aria-label={`The last ${amounts.length} totals`}>
        <polyline points={line} fill="none" stroke="currentColor" strokeWidth="2" vectorEffect="non-scaling-stroke" />
      </svg>
      <figcaption>{amounts.at(-1) ?? "…"} now{hasMore && <button type="button" onClick={() => void loadMore()}>Earlier</button>}</figcaption>
    </figure>
  );
}

/** Call a function in one of the tabs that are looked at, and not in the others. */
function once(name: string, act: () => void): void {
  if (document.hidden) return;
  void navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (!lock) return;
    act();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  });
}

export function Toasts({ show }: { readonly show: (text: string) => void }) {
  useRealtimeCredits({
    onCreditsUpdate: (now, before) => {
      if (before && now.credits > before.credits) once(`toast ${now.version}`, () => show(`+${now.credits - before.credits} credits`));
    },
  });
  return null;
}

export function Tabs() {
  const { tabs, leading, isSubscribed } = useRealtimeCredits();
  return <p className="tabs">{isSubscribed ? "Live" : "Not live"} · {tabs === 1 ? "one tab" : `${tabs} tabs, one connection`}{leading && " · held here"}</p>;
}

const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function Freshness() {
  const { credits, status, lastSyncedAt } = useRealtimeCredits();
  if (!credits || status === "live") return null;
  const minutes = lastSyncedAt === null ? 0 : Math.round((lastSyncedAt - Date.now()) / 60_000);
  if (status === "polling") return <p className="fresh">Updated every few seconds.</p>;
  return <p className="fresh" role="status">You are offline: {credits.credits} credits as of {AGO.format(minutes, "minute")}.</p>;
}
