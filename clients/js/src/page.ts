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
export function watchPage({ online, offline, awake, asleep }: PageHandlers): () => void {
  const visible = (): void => {
    if (looking()) awake();
  };
  const events = Object.entries({ online, offline, pageshow: awake, pagehide: asleep, resume: awake, freeze: asleep, visibilitychange: visible });
  // On their way down events of the document pass the window.
  const each = (listen?: typeof addEventListener): void => events.forEach(([name, handler]) => listen?.(name, handler, true));
  each(globalThis.window?.addEventListener);
  return () => each(globalThis.window?.removeEventListener);
}

/** Tell whether somebody may be looking. */
export function looking(): boolean {
  return !globalThis.document?.hidden;
}
