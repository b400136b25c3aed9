// The stream of events: opened while somebody looks, opened again when it breaks, from where it broke.

const FIRST_WAIT_MS = 1000;
const LAST_WAIT_MS = 30_000;

export class Live {
  #source = null;
  #timer = null;
  #wait = FIRST_WAIT_MS;
  #seen = "";
  #batch = null;

  // `on` has a function for each event, and `state` for what becomes of the stream: "live", "waiting", "off".
  constructor(on) {
    this.on = on;
    // Browsers open six connections to a plain HTTP server; pages that nobody looks at must not hold them.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
  }

  watch(batch) {
    this.#batch = batch;
    this.#open();
  }

  stop() {
    this.#batch = undefined;
    this.#close();
    this.on.state("off");
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    this.#close();
    if (document.hidden || this.#batch === undefined) return;
    const query = new URLSearchParams({ seen: this.#seen });
    if (this.#batch) query.set("batch", this.#batch);
    const source = (this.#source = new EventSource(`/console/events?${query}`));
    source.onopen = () => {
      this.#wait = FIRST_WAIT_MS;
      this.on.state("live");
    };
    source.onerror = () => this.#broke(source);
    for (const name of ["hello", "batch", "gone", "totals", "missed", "detail", "signed-out"])
      source.addEventListener(name, (event) => {
        this.#seen = event.lastEventId || this.#seen;
        this.on[name](JSON.parse(event.data));
      });
  }

  // We come back ourselves: a browser gives up for good when it is refused once, and knows no longer waits.
  #broke(source) {
    if (source !== this.#source) return;
    this.#close();
    this.on.state("waiting");
    this.#timer = setTimeout(() => this.#open(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LAST_WAIT_MS);
    this.on.broke();
  }
}
