import type { Status } from "creditsd";

const WORDS: Readonly<Record<Status, string>> = {
  idle: "paused",
  connecting: "connecting",
  live: "live",
  polling: "every few seconds",
  offline: "offline",
  error: "refused",
  signed_out: "signed out",
  closed: "closed",
};

/** The small light that says whether the number can be trusted to the second. */
export function Light({ status, live }: { readonly status: Status; readonly live: boolean }) {
  return (
    <span className="light" role="status" data-status={live ? "live" : status}>
      <i aria-hidden="true" />
      {WORDS[status]}
    </span>
  );
}
