// Questions to the daemon, and its stream. EventSource can send no key, so the stream is read with fetch.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const SILENCE = 10_000; // the state comes every second: after so long there is nobody

export class Refused extends Error {}

export class Api {
  constructor(key) {
    this.headers = { Authorization: `Bearer ${key}` };
  }

  get(path) {
    return this.#ask(path, { headers: this.headers });
  }

  post(path, body) {
    const headers = { ...this.headers, "Content-Type": "application/json" };
    return this.#ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async #ask(path, options) {
    const response = await fetch(`/v1/operator/${path}`, { cache: "no-store", ...options });
    const said = parse(await response.text());
    if (!said.success) throw response.status === 401 ? new Refused(said.error) : new Error(said.error);
    return said.data;
  }
}

export class Stream {
  #headers;
  #told;
  #status;
  #stop = null;

  constructor(api, { told, status }) {
    this.#headers = api.headers;
    this.#told = told;
    this.#status = status;
  }

  start() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  stop() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #run(stopped) {
    let pause = FIRST_PAUSE;
    while (!stopped.aborted) {
      try {
        await this.#read(stopped, () => (pause = FIRST_PAUSE));
      } catch (error) {
        if (stopped.aborted) return;
        if (error instanceof Refused) return this.#status("refused", error.message);
      }
      if (stopped.aborted) return;
      this.#status("away");
      await new Promise((wake) => setTimeout(wake, pause * (0.5 + Math.random() / 2)));
      pause = Math.min(LONGEST_PAUSE, pause * 2);
    }
  }

  // A mistake in what is shown is no reason to hang up.
  #tell(event, data) {
    try {
      this.#told(event, data);
    } catch (error) {
      reportError(error);
    }
  }

  async #read(stopped, begun) {
    const silence = new AbortController();
    const signal = AbortSignal.any([stopped, silence.signal]);
    let watch = setTimeout(() => silence.abort(), SILENCE);
    try {
      const response = await fetch("/v1/operator/stream", { headers: this.#headers, cache: "no-store", signal });
      if (response.status === 401) throw new Refused((await response.json()).error);
      if (!response.ok) throw new Error(response.statusText);
      begun();
      this.#status("live");
      for await (const [event, data] of events(response.body)) {
        clearTimeout(watch);
        watch = setTimeout(() => silence.abort(), SILENCE);
        if (event === "close") return;
        this.#tell(event, data);
      }
    } finally {
      clearTimeout(watch);
    }
  }
}

// Numbers that JavaScript would round stay text, where the browser tells how they were written.
export function parse(text) {
  return JSON.parse(text, (_, value, context) => (typeof value === "number" ? whole(value, context?.source) : value));
}

function whole(value, source) {
  if (source === undefined || /e/i.test(source)) return value;
  const digits = source.includes(".") ? source.replace(/\.?0+$/, "") : source;
  return String(value) === digits ? value : source;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const fields = Object.fromEntries(text.slice(0, end).split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
        if (fields.data !== undefined) yield [fields.event ?? "message", parse(fields.data)];
      }
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}
