"use client";

import type { Total } from "creditsd";
import { RealtimeCreditsProvider, useCredits, useCreditsClient, useCreditsHistory, useRealtimeCredits } from "creditsd/react";
import { type ReactNode, useState, useTransition } from "react";

import { act, signOut, token } from "./actions";

const PRICE = 5;

interface CreditsProps {
  readonly userId: string;
  readonly total: Total | null;
  readonly children: ReactNode;
}

/** One client for everything below; another user gets another. */
export function Credits({ userId, total, children }: CreditsProps) {
  return (
    <RealtimeCreditsProvider key={userId} url={process.env.NEXT_PUBLIC_CREDITSD_URL ?? ""} initialTotal={total} getToken={token}>
      {children}
    </RealtimeCreditsProvider>
  );
}

export function Balance() {
  const { credits, error, status, tabs } = useRealtimeCredits();
  return (
    <section className="balance">
      <output>{credits?.credits ?? "…"}</output>
      <p>{error ?? credits?.message}</p>
      <p className="light" role="status" data-status={status}>{status === "live" && tabs > 1 ? `live, ${tabs} tabs share one connection` : status}</p>
    </section>
  );
}

export function Shop() {
  const client = useCreditsClient();
  const left = useCredits((now) => now.credits) ?? 0;
  const [problem, setProblem] = useState("");
  const [, start] = useTransition();

  const spend = (): void => start(async () => {
    const written = act("spend").then((done) => {
      if (!done) throw new Error("There is nothing to spend.");
    });
    // Shown at once, on top of whatever else comes; taken back if the write fails.
    client.optimistic(-PRICE, { until: written });
    await written.then(() => setProblem(""), (error: Error) => setProblem(error.message));
  });

  return (
    <section className="shop">
      <button type="button" disabled={left < PRICE} onClick={spend}>Print for {PRICE}</button>
      <button type="button" onClick={() => start(async () => void (await act("buy")))}>Buy a pack</button>
      <button type="button" className="quiet" onClick={() => start(async () => {
        client.signOut();
        await signOut();
      })}>Sign out</button>
      {problem && <p role="alert">{problem}</p>}
    </section>
  );
}

export function Trend() {
  const { steps } = useCreditsHistory({ limit: 20 });
  return (
    <ol className="trend">
      {steps.slice(0, 8).map(({ version, credits, updated_at }) => (
        <li key={version}><time dateTime={updated_at}>{updated_at.slice(11, 19)}</time><b>{credits}</b></li>
      ))}
    </ol>
  );
}
