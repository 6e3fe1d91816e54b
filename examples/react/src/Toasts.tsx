import { useCallback, useEffect, useRef, useState } from "react";

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly kind: "good" | "plain" | "bad";
}

const SHOWN_MS = 3_500;

export function useToasts(): { toasts: readonly Toast[]; toast: (text: string, kind: Toast["kind"]) => void } {
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const last = useRef(0);
  const timers = useRef(new Set<number>());
  useEffect(() => () => timers.current.forEach((timer) => clearTimeout(timer)), []);
  const toast = useCallback((text: string, kind: Toast["kind"]) => {
    const id = ++last.current;
    setToasts((known) => [...known.slice(-2), { id, text, kind }]);
    timers.current.add(window.setTimeout(() => setToasts((known) => known.filter((each) => each.id !== id)), SHOWN_MS));
  }, []);
  return { toasts, toast };
}

export function Toasts({ toasts }: { readonly toasts: readonly Toast[] }) {
  return (
    <div className="toasts" role="status" aria-live="polite">
      {toasts.map(({ id, text, kind }) => <p key={id} className={kind}>{text}</p>)}
    </div>
  );
}
