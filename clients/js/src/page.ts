/** What happens to the page the client lives in: it loses the network, sleeps, wakes. */

export interface PageHandlers {
  online(): void;
  offline(): void;
  /** A person looks at the tab again, or the browser lets it run again. */
  awake(): void;
  /** The browser is about to stop the tab: whatever is held is given back now. */
  asleep(): void;
}

/** Call the handlers until the returned function is called. Outside a browser nothing ever happens. */
export function watchPage(on: PageHandlers): () => void {
  if (typeof document === "undefined") return () => {};
  const visible = (): void => {
    if (!document.hidden) on.awake();
  };
  const events: [EventTarget, string, () => void][] = [
    [window, "online", on.online],
    [window, "offline", on.offline],
    [window, "pageshow", on.awake],
    [window, "pagehide", on.asleep],
    [document, "resume", on.awake],
    [document, "freeze", on.asleep],
    [document, "visibilitychange", visible],
  ];
  for (const [target, name, handler] of events) target.addEventListener(name, handler);
  return () => {
    for (const [target, name, handler] of events) target.removeEventListener(name, handler);
  };
}

/** Tell whether somebody may be looking. */
export function looking(): boolean {
  return typeof document === "undefined" || !document.hidden;
}
