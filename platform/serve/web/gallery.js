// The images that were taken: each with its file, its request and what came of it; bounded in number and memory.
import { readThumbnail } from "./jobs.js";
import { count, shownName } from "./names.js";

export const MOST_IMAGES = 48;
const MOST_DRAWN_BYTES = 200e6; // of images that the server drew, as the browser cannot read their files

/**
 * Holds entries {name, fileName, state, error, result, thumbnail, other}. state is "waiting", "done" or "failed"; result
 * is {answer, labels, seconds}; thumbnail a bitmap; other what a second server answered, see compare.js.
 */
export class Gallery {
  #entries = [];
  #ask;
  #changed;
  #drawn = []; // entries with an image that the server drew, the one wanted last at the end

  /** ask(file, signal, paused) gives a result, a few at a time; changed(entry) is called when an entry has changed. */
  constructor(ask, changed) {
    this.#ask = ask;
    this.#changed = changed;
  }

  get entries() {
    return this.#entries;
  }

  /** Take an image that read(signal) gives as a Blob, and ask the server about it. The oldest leave where it is full. */
  add(fileName, read) {
    const entry = { name: shownName(fileName), fileName, read, file: null, thumbnail: null, drawn: null, other: null };
    this.#entries.push(entry);
    this.start(entry);
    while (this.#entries.length > MOST_IMAGES) this.remove(this.#entries[0]);
    return entry;
  }

  /** Ask about an entry, anew where it failed; entry.answered is the promise of its result. */
  start(entry) {
    const controller = new AbortController();
    Object.assign(entry, { state: "waiting", error: null, result: null, controller, busy: "" });
    entry.answered = this.#look(entry, controller.signal);
    entry.answered.then(
      (result) => this.#settle(entry, controller, { state: "done", result }),
      (error) => this.#settle(entry, controller, { state: "failed", error }),
    );
    this.#changed(entry);
  }

  /** The file of an entry; it is read once. */
  fileOf(entry) {
    entry.file ??= entry.read(entry.controller.signal).catch((error) => {
      entry.file = null;
      throw error;
    });
    return entry.file;
  }

  /** Let go of an entry, and of its request. */
  remove(entry) {
    entry.controller.abort();
    entry.thumbnail?.close();
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#drawn = this.#drawn.filter((other) => other !== entry);
    this.#changed(entry);
  }

  /** The image of an entry as a Blob that `draw` gives, remembered as far as there is room. */
  async drawnBy(entry, draw) {
    entry.drawn ??= await draw();
    this.#drawn = [...this.#drawn.filter((other) => other !== entry), entry];
    while (this.#drawn.reduce((sum, { drawn }) => sum + drawn.size, 0) > MOST_DRAWN_BYTES && this.#drawn.length > 1) {
      this.#drawn.shift().drawn = null;
    }
    if (!entry.thumbnail) this.#shrink(entry, entry.drawn);
    return entry.drawn;
  }

  async #look(entry, signal) {
    const file = async () => {
      const read = await this.fileOf(entry);
      if (!entry.thumbnail) this.#shrink(entry, read);
      return read;
    };
    return this.#ask(file, signal, (seconds) => {
      entry.busy = `The server is busy; it is asked again in ${count(seconds, "second")}`;
      this.#changed(entry);
    });
  }

  async #shrink(entry, file) {
    try {
      const thumbnail = await readThumbnail(file);
      if (entry.controller.signal.aborted || entry.thumbnail) return thumbnail.close();
      entry.thumbnail = thumbnail;
      this.#changed(entry);
    } catch {
      // the browser cannot read it: it has no small copy until the server has drawn it
    }
  }

  #settle(entry, controller, outcome) {
    if (entry.controller !== controller || controller.signal.aborted) return; // begun anew, or gone
    Object.assign(entry, outcome, { busy: "" });
    this.#changed(entry);
  }
}
