// The operator's key: from the address's fragment, which no server ever sees, or from the form; kept for this tab alone.

const NAME = "creditsd.operator_key";

export function take() {
  const named = new URLSearchParams(location.hash.slice(1)).get("key");
  if (named !== null) {
    history.replaceState(null, "", location.pathname + location.search);
    keep(named);
  }
  return sessionStorage.getItem(NAME);
}

export function keep(key) {
  sessionStorage.setItem(NAME, key);
}

export function forget() {
  sessionStorage.removeItem(NAME);
}
