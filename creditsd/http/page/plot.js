// Two minutes as a line, drawn by hand: one number that matters, and how it came there.

import { drawing, element, mark, say } from "./draw.js";

const WIDTH = 600;
const HEIGHT = 120;
const FLOOR = 1; // of a logarithmic scale, in its own unit

export class Plot {
  #rates = null;
  #second = null;

  constructor(figure, { title, series, write, logarithmic = false }) {
    this.figure = figure;
    this.series = series;
    this.write = write;
    this.logarithmic = logarithmic;
    this.value = element("span", { class: "value" });
    this.when = element("span", { class: "when" });
    this.top = element("span", { class: "top" });
    this.peak = element("span", { class: "peak" });
    this.lines = series.map((_, index) => drawing("path", { class: `series series-${index}` }));
    this.area = drawing("path", { class: "area" });
    this.ticks = element("div", { class: "ticks", "aria-hidden": "true" });
    this.cross = drawing("line", { class: "cross", y1: 0, y2: HEIGHT });
    this.svg = drawing(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0 },
      this.area, ...[...this.lines].reverse(), this.cross,
    );
    const keys = series.length > 1
      ? series.map(([, name], index) => element("span", { class: `key key-${index}` }, name))
      : [element("span", { class: "key" }, series[0][1])];
    figure.append(
      element("figcaption", {}, element("h2", {}, title), element("p", { class: "now" }, this.value, this.when)),
      element("div", { class: "sheet" }, this.ticks, this.top, this.peak, this.svg),
      element("p", { class: "legend" }, ...keys, element("span", { class: "range" }, "2 min")),
    );
    this.svg.addEventListener("pointermove", (event) => this.#point(event.offsetX / this.svg.clientWidth));
    this.svg.addEventListener("pointerleave", () => this.#choose(null));
    this.svg.addEventListener("blur", () => this.#choose(null));
    this.svg.addEventListener("keydown", (event) => this.#step(event));
  }

  show(rates) {
    this.#rates = rates;
    const values = this.series.flatMap(([name]) => rates[name]).filter((each) => each !== null);
    const full = this.#full(values);
    const height = (value) => HEIGHT - 1 - this.#share(value, full) * (HEIGHT - 4);
    this.series.forEach(([name], index) => this.lines[index].setAttribute("d", path(rates[name], height)));
    this.area.setAttribute("d", this.logarithmic ? "" : `${path(rates[this.series[0][0]], height)}V${HEIGHT}H0Z`);
    const most = Math.max(0, ...values);
    say(this.top, this.write(full));
    if (this.logarithmic) this.#rule(full, height);
    this.#tellPeak(most > full ? most : null);
    this.#tell();
    const words = `${this.series[0][1]} over two minutes: ${this.value.textContent} now, ${this.write(most)} at most`;
    mark(this.svg, "aria-label", words);
  }

  // What nearly every second stays below; a single burst shall not flatten all the rest.
  #full(values) {
    if (this.logarithmic) return 10 ** Math.ceil(Math.log10(Math.max(100, ...values)));
    const sorted = values.filter((each) => each > 0).sort((one, other) => one - other);
    return round(Math.max(4, 1.2 * (sorted[Math.floor((sorted.length - 1) * 0.95)] ?? 0)));
  }

  // A line at each power of ten below the top, so that a height can be read.
  #rule(full, height) {
    if (this.ticks.dataset.full === String(full)) return;
    this.ticks.dataset.full = full;
    const powers = Array.from({ length: Math.round(Math.log10(full)) - 1 }, (_, index) => 10 ** (index + 1));
    this.ticks.replaceChildren(
      ...powers.map((each) => {
        const tick = element("span", {}, this.write(each));
        tick.style.top = `${(height(each) / HEIGHT) * 100}%`;
        return tick;
      }),
    );
  }

  #tellPeak(most) {
    this.peak.hidden = most === null;
    if (most === null) return;
    const values = this.#rates[this.series[0][0]];
    say(this.peak, this.write(most));
    this.peak.style.left = `${((Math.max(0, values.indexOf(most)) + 0.5) / values.length) * 100}%`;
  }

  #share(value, full) {
    if (!this.logarithmic) return value / full;
    return Math.max(0, Math.log10(Math.max(FLOOR, value)) / Math.log10(full));
  }

  #tell() {
    const values = this.#rates[this.series[0][0]];
    const second = this.#second ?? values.findLastIndex((each) => each !== null);
    const chosen = this.series.map(([name]) => this.write(this.#rates[name][second] ?? null));
    say(this.value, this.#second === null ? chosen[0] : chosen.join(" / "));
    const past = values.length - second;
    say(this.when, this.#second !== null ? `${past} s ago` : second >= 0 && past > 5 && this.logarithmic ? `${past} s ago` : "");
    const x = ((second + 0.5) / values.length) * WIDTH;
    mark(this.cross, "x1", x);
    mark(this.cross, "x2", x);
    mark(this.cross, "data-shown", this.#second !== null);
  }

  #point(share) {
    if (this.#rates) this.#choose(Math.round(share * (this.#rates.totals.length - 1)));
  }

  #step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") this.#choose(null);
    if (!by || !this.#rates) return;
    event.preventDefault();
    this.#choose((this.#second ?? this.#rates.totals.length - 1) + by);
  }

  #choose(second) {
    if (!this.#rates) return;
    this.#second = second === null ? null : Math.max(0, Math.min(this.#rates.totals.length - 1, second));
    this.#tell();
  }
}

// Seconds in a row are a line; one by itself is a dot, which a line of no length is with round ends.
function path(values, height) {
  let drawn = "";
  values.forEach((value, index) => {
    if (value === null) return;
    const at = `${(((index + 0.5) / values.length) * WIDTH).toFixed(1)} ${height(value).toFixed(1)}`;
    const follows = (values[index - 1] ?? null) !== null;
    drawn += follows ? `L${at}` : `M${at}`;
    if (!follows && (values[index + 1] ?? null) === null) drawn += "h0";
  });
  return drawn;
}

// The next round number: 1, 2, 5, 10 …
function round(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * size).find((each) => each >= value);
}
