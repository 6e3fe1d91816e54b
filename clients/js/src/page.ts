/** What happens to the page the client lives in: it loses the network, sleeps, wakes. */

/** Call a handler at each of these events, until the returned function is called. Outside a browser nothing ever happens. */
export function watchPage(handlers: Readonly<Record<string, () => void>>): () => void {
  // On their way down events of the document pass the window.
  const each = (listen?: typeof addEventListener): void => Object.entries(handlers).forEach(([name, handler]) => listen?.(name, handler, true));
  each(globalThis.window?.addEventListener);
  return () => each(globalThis.window?.removeEventListener);
}

/** Tell whether somebody may be looking. */
export function looking(): boolean {
  return !globalThis.document?.hidden;
}
