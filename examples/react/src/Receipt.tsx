export interface Line {
  readonly version: number;
  readonly at: Date;
  readonly change: number;
  readonly left: number;
  readonly text: string;
}

interface Props {
  readonly lines: readonly Line[];
  readonly name: string;
  readonly plan: string;
}

const TIME = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** What has happened since the tab was opened, the newest on top. */
export function Receipt({ lines, name, plan }: Props) {
  return (
    <section className="receipt" aria-label="Changes">
      <div className="paper">
        <h2>{name}</h2>
        <p className="plan">{plan}</p>
        <ol>
          {lines.map(({ version, at, change, left, text }) => (
            <li key={version}>
              <time dateTime={at.toISOString()}>{TIME.format(at)}</time>
              <span>{text}</span>
              <b className={change > 0 ? "plus" : ""}>{change === 0 ? "0" : `${change > 0 ? "+" : "−"}${Math.abs(change)}`}</b>
              <em>{left}</em>
            </li>
          ))}
        </ol>
        {lines.length === 0 && <p className="empty">Changes print here, whoever makes them: this tab, another one, a renewal, the clock.</p>}
      </div>
    </section>
  );
}
