/** A page for React to render into, without a browser. */

import assert from "node:assert/strict";
import { after, type TestContext } from "node:test";

import { Window } from "happy-dom";
import { act, createElement, type ReactNode, StrictMode } from "react";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";

export const page = new Window({ url: "http://localhost/" });
Object.assign(globalThis, { window: page, document: page.document, IS_REACT_ACT_ENVIRONMENT: true });
after(() => page.close());

export interface Scene {
  readonly element: HTMLElement;
  show(...children: ReactNode[]): Promise<void>;
}

/** Make a place on the page, which is left empty after the test. */
export function onPage(t: TestContext, { html, strict = true }: { html?: string; strict?: boolean } = {}): Scene {
  const element = page.document.createElement("div") as unknown as HTMLElement;
  page.document.body.append(element as never);
  const within = (children: ReactNode[]): ReactNode => (strict ? createElement(StrictMode, null, ...children) : children);
  let root: Root | undefined;
  if (html !== undefined) element.innerHTML = html;
  const show = (...children: ReactNode[]): Promise<void> => act(async () => {
    if (!root && html !== undefined) root = hydrateRoot(element, within(children));
    else (root ??= createRoot(element)).render(within(children));
  });
  t.after(() => act(async () => root?.unmount()));
  return { element, show };
}

/** Let React show what has come until something holds; fails after ten seconds. */
export async function shown(holds: () => unknown): Promise<void> {
  for (const end = Date.now() + 10_000; !holds(); ) {
    assert.ok(Date.now() < end, `not so within 10 s: ${holds}`);
    await act(() => new Promise((resolve) => setTimeout(resolve, 5)));
  }
}
