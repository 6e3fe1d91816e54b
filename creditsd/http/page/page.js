// The operator's page: asks for the key, follows the stream, and hands what it says to each part.

import { Api, Refused, Stream } from "./api.js";
import { mark, say } from "./draw.js";
import { Explain } from "./explain.js";
import * as key from "./key.js";
import { Deliveries } from "./deliveries.js";
import { Plot } from "./plot.js";
import { Recent } from "./recent.js";
import { Sinks } from "./sinks.js";
import { Stations } from "./stations.js";
import { duration, name, number } from "./words.js";

const HIDDEN = 5000; // a tab nobody looks at costs nothing

const at = (id) => document.getElementById(id);

class Page {
  constructor(api, refused) {
    this.refused = refused;
    this.explain = new Explain(at("explain"), at("explained"), api);
    this.recent = new Recent(at("recent"), at("recent-note"), at("hold"), (id) => this.explain.ask(id));
    this.deliveries = new Deliveries(at("deliveries"), at("deliveries-list"), at("deliveries-said"), api, (id) => this.explain.ask(id));
    this.sinks = new Sinks(at("sinks"), at("sinks-said"), api);
    this.stations = new Stations(at("stations"));
    this.rate = new Plot(at("rate"), {
      title: "Each second",
      series: [["totals", "totals published"], ["changes", "changes read"]],
      write: (value) => number(value ?? 0),
    });
    this.lag = new Plot(at("lag"), {
      title: "From stored to arrived",
      series: [["lag_ms", "slowest arrival"]],
      write: duration,
      logarithmic: true,
    });
    this.stream = new Stream(api, {
      told: (event, data) => this[event]?.(data),
      status: (status, why) => this.status(status, why),
    });
  }

  open() {
    this.watch = () => {
      clearTimeout(this.hiding);
      if (!document.hidden) this.stream.start();
      else this.hiding = setTimeout(() => (this.stream.stop(), this.status("resting")), HIDDEN);
    };
    document.addEventListener("visibilitychange", this.watch);
    this.stream.start();
  }

  close() {
    document.removeEventListener("visibilitychange", this.watch);
    this.stream.stop();
  }

  status(status, why) {
    if (status === "refused") return this.refused(why);
    const words = { live: "live", away: "reconnecting", resting: "resting" };
    mark(at("light"), "data-status", status);
    say(at("light"), words[status] ?? status);
    if (status === "away") say(at("sentence"), "The daemon does not answer this page. Trying again.");
  }

  hello({ beside }) {
    at("room").hidden = at("head-end").hidden = false;
    at("beside").hidden = !beside;
    mark(document.body, "data-beside", Boolean(beside));
    name(beside?.names ?? {});
    if (!beside) return;
    if (at("beside-frame").getAttribute("src") !== beside.page) {
      at("beside-frame").src = at("beside-link").href = beside.page;
    }
    this.explain.ask(beside.user_id, { quietly: true });
  }

  state(state) {
    say(at("sentence"), state.sentence);
    mark(document.body, "data-state", state.problem ? "disconnected" : state.hindrance ? "hindered" : state.state);
    this.stations.show(state);
    this.rate.show(state.rates);
    this.lag.show(state.rates);
    this.sinks.show(state);
    this.deliveries.show(state);
    this.recent.lead(["leading", "backfilling"].includes(state.state));
  }

  changes(news) {
    this.recent.show(news);
    this.explain.changed(news.totals);
    this.stations.pass();
  }
}

function ask(wrong) {
  const door = at("door");
  at("room").hidden = at("head-end").hidden = true;
  door.hidden = false;
  say(at("sentence"), "");
  say(at("wrong"), wrong ?? "");
  at("key").value = "";
  at("key").focus();
  door.onsubmit = async (event) => {
    event.preventDefault();
    const tried = at("key").value.trim();
    try {
      await new Api(tried).get("state");
    } catch (error) {
      say(at("wrong"), error instanceof Refused ? "This is not the key." : `It cannot be tried now: ${error.message}`);
      at("key").select();
      return;
    }
    key.keep(tried);
    enter(tried);
  };
}

function enter(with_key) {
  at("door").hidden = true;
  const page = new Page(new Api(with_key), (why) => leave(page, why));
  at("lock").onclick = () => leave(page);
  page.open();
}

function leave(page, why) {
  page.close();
  key.forget();
  // Everything that was shown goes with the page.
  if (why) sessionStorage.setItem("creditsd.refused", why);
  location.reload();
}

function begin() {
  const known = key.take();
  const why = sessionStorage.getItem("creditsd.refused");
  sessionStorage.removeItem("creditsd.refused");
  if (known) enter(known);
  else ask(why && "The key is not valid any more.");
}

window.addEventListener("hashchange", () => location.hash.includes("key=") && (key.take(), location.reload()));
begin();
