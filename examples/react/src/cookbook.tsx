import "@fontsource-variable/bricolage-grotesque/wght.css";
import "./cookbook.css";

import { RealtimeCreditsProvider, useCredits } from "creditsd/react";
import { type ReactNode, useState } from "react";
import { createRoot } from "react-dom/client";

import { Freshness, LowBanner, Tabs, Toasts, Trend, Used } from "./recipes.tsx";
import { signIn } from "./shop.ts";

const customer = new URLSearchParams(location.search).get("customer") ?? "";

function Card({ name, children }: { readonly name: string; readonly children: ReactNode }) {
  return <section id={name}><h2>{name}</h2>{children}</section>;
}

function Amount() {
  return <output>{useCredits(({ credits }) => credits) ?? "…"}</output>;
}

function Page() {
  const [toast, setToast] = useState("");
  return (
    <main>
      <Card name="balance"><Amount /></Card>
      <Card name="banner"><LowBanner below={100} /></Card>
      <Card name="progress"><Used allowance={500} /></Card>
      <Card name="trend"><Trend /></Card>
      <Card name="toast"><Toasts show={setToast} />{toast && <p className="toast">{toast}</p>}</Card>
      <Card name="tabs"><Tabs /></Card>
      <Card name="offline"><Freshness /></Card>
    </main>
  );
}

createRoot(document.getElementById("root")!).render(
  <RealtimeCreditsProvider url={import.meta.env.VITE_CREDITSD_URL ?? ""} getToken={({ fresh }) => signIn(customer, fresh)}>
    <Page />
  </RealtimeCreditsProvider>,
);
