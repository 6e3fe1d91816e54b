import { type CSSProperties, useEffect, useRef, useState } from "react";

const CELLS = 40;
const COUNT_MS = 450;

/** Run from the number shown to the one that is true, as a till does. */
function useCounted(amount: number | undefined): number | undefined {
  const [shown, setShown] = useState(amount);
  const from = useRef(amount);
  useEffect(() => {
    const start = performance.now();
    const begin = from.current;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (amount === undefined || begin === undefined || still || document.hidden) {
      from.current = amount;
      setShown(amount);
      return;
    }
    let frame = requestAnimationFrame(function step(now) {
      const done = Math.min(1, Math.max(0, now - start) / COUNT_MS);
      from.current = Math.round(begin + (amount - begin) * (1 - (1 - done) ** 3));
      if (done === 1) from.current = amount;
      setShown(from.current);
      if (done < 1) frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [amount]);
  return shown;
}

interface Props {
  readonly amount: number | undefined;
  readonly full: number;
  readonly low: boolean;
}

/** The number, and a punch card of what is left of a full one. */
export function Meter({ amount, full, low }: Props) {
  const shown = useCounted(amount);
  const text = shown === undefined ? "…" : shown.toLocaleString("en");
  const punched = Math.ceil((Math.max(0, amount ?? 0) / full) * CELLS);
  return (
    <div className={low ? "meter is-low" : "meter"}>
      <output className="number" style={{ "--digits": text.length } as CSSProperties}>{text}</output>
      <span className="unit">credits</span>
      <div className="card" role="meter" aria-label="Credits left" aria-valuemin={0} aria-valuemax={full} aria-valuenow={amount ?? 0}>
        {Array.from({ length: CELLS }, (_, index) => <i key={index} className={index < punched ? "left" : ""} />)}
      </div>
      <p className="scale"><span>0</span><span>{full.toLocaleString("en")}</span></p>
    </div>
  );
}
