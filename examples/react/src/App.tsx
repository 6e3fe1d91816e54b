import { RealtimeCreditsProvider } from "creditsd/react";
import { useEffect, useState } from "react";

import { Room } from "./Room.tsx";
import { type Customer, customers, signIn } from "./shop.ts";

/** Who is signed in stands in the address, so that another tab opens as the same customer. */
function useCustomer(all: readonly Customer[]): [Customer | undefined, (user_id: string) => void] {
  const [wanted, setWanted] = useState(() => new URLSearchParams(location.search).get("customer"));
  const choose = (user_id: string): void => {
    history.replaceState(null, "", `?customer=${user_id}`);
    setWanted(user_id);
  };
  return [all.find(({ user_id }) => user_id === wanted) ?? all[0], choose];
}

export function App() {
  const [all, setAll] = useState<readonly Customer[]>([]);
  const [problem, setProblem] = useState<string>();
  const [customer, choose] = useCustomer(all);

  useEffect(() => {
    customers().then(setAll, () => setProblem("Nobody answers at creditsd's address. Start `creditsd demo`, and reload."));
  }, []);

  if (!customer) return <p className="waiting">{problem ?? "Opening …"}</p>;
  return (
    <RealtimeCreditsProvider
      key={customer.user_id}
      url={import.meta.env.VITE_CREDITSD_URL ?? ""}
      getToken={({ fresh }) => signIn(customer.user_id, fresh)}
    >
      <Room customer={customer} all={all} choose={choose} />
    </RealtimeCreditsProvider>
  );
}
