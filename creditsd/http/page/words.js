// How numbers and times are said.

const NUMBERS = new Intl.NumberFormat("en", { maximumFractionDigits: 20 });

export const DOORBELL = {
  asleep: "asleep, writers ring",
  asking: "going to sleep",
  awake: "awake, polling",
  polling: "polling, no bell",
};

export function number(value) {
  return value === null || value === undefined ? "?" : NUMBERS.format(value); // text too, and that exactly
}

export function counted(value, limit) {
  return value >= limit ? `${number(limit)} or more` : number(value);
}

export function plural(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  if (milliseconds < 1) return "<1 ms";
  if (milliseconds < 100) return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  if (milliseconds < 950) return `${Math.round(milliseconds)} ms`;
  return span(milliseconds / 1000);
}

export function span(seconds) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60]];
  for (const [unit, size] of units) if (seconds >= size) return `${Math.round(seconds / size)} ${unit}`;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

export function ago(moment) {
  return moment === null ? "never" : `${span(Math.max(0, (Date.now() - Date.parse(moment)) / 1000))} ago`;
}

export function clock(moment) {
  return new Date(moment).toLocaleTimeString("en-GB", { hour12: false });
}

export function day(moment) {
  return moment === null ? "never" : new Date(moment).toISOString().slice(0, 16).replace("T", " ");
}

export function step(total) {
  if ([total.credits, total.before].some((each) => typeof each === "string")) return { by: 0, text: "changed" };
  const by = total.credits - (total.before ?? 0);
  return { by, text: by > 0 ? `+${number(by)}` : by < 0 ? `−${number(-by)}` : "±0" };
}

const NAMES = new Map();

// What some users are called, where that is known: the demo's customers have names.
export function name(names) {
  for (const [id, called] of Object.entries(names)) NAMES.set(id, called);
}

// A name, or an id of any length in the space of a short one; the whole of it is in the title.
export function short(id) {
  if (NAMES.has(id)) return NAMES.get(id);
  return id.length > 14 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}
