// The strip of images that were taken, as a row of buttons: arrows walk, Enter shows one, Delete lets go of it.
import { element } from "./elements.js";
import { count } from "./names.js";

const EDGE = 160; // pixels of a tile's canvas, for one and a half of the page each

export class Strip {
  #list;
  #title;
  #choose;
  #remove;
  #tiles = new Map(); // entry: {row, button, badge}
  #current = null;

  /** choose(entry) and remove(entry) are called for what the reader does. */
  constructor(list, title, choose, remove) {
    this.#list = list;
    this.#title = title;
    this.#choose = choose;
    this.#remove = remove;
    list.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Show these entries, of which one is current, with what `tell` says of each: {text, badge}. */
  update(entries, current, tell) {
    for (const [entry, { row }] of this.#tiles) {
      if (entries.includes(entry)) continue;
      row.remove();
      this.#tiles.delete(entry);
    }
    for (const entry of entries) this.#show(entry, tell(entry));
    this.#mark(current);
    const done = entries.filter(({ state }) => state !== "waiting").length;
    this.#title.textContent = done < entries.length ? `${done} of ${count(entries.length, "image")} done` : count(done, "image");
  }

  #show(entry, { text, badge }) {
    let tile = this.#tiles.get(entry);
    if (!tile) {
      tile = this.#make(entry);
      this.#tiles.set(entry, tile);
      this.#list.append(tile.row);
    }
    if (entry.thumbnail && !tile.drawn) {
      drawThumbnail(tile.canvas, entry.thumbnail);
      tile.drawn = true;
    }
    tile.button.className = entry.state;
    tile.button.setAttribute("aria-label", `${entry.name}: ${text}`);
    tile.badge.textContent = badge;
  }

  #make(entry) {
    const canvas = element("canvas", { width: 1, height: 1 });
    const badge = element("span", { className: "badge", ariaHidden: "true" });
    const button = element("button", { type: "button", title: entry.name, tabIndex: -1 }, canvas, badge);
    button.addEventListener("click", () => this.#choose(entry));
    return { row: element("li", {}, button), button, badge, canvas, drawn: false };
  }

  /** One button of the row is in the order of Tab: that of the image that is shown, else the first. */
  #mark(current) {
    const tile = this.#tiles.get(current);
    for (const { button } of this.#tiles.values()) {
      button.removeAttribute("aria-current");
      button.tabIndex = -1;
    }
    const first = tile ?? this.#tiles.values().next().value;
    if (first) first.button.tabIndex = 0;
    tile?.button.setAttribute("aria-current", "true");
    if (tile && current !== this.#current) this.#bringIntoView(tile.row);
    this.#current = current;
  }

  /** Scroll the row alone: scrollIntoView would move the page too. */
  #bringIntoView(row) {
    const [start, end] = [row.offsetLeft - this.#list.offsetLeft, row.offsetLeft + row.offsetWidth - this.#list.offsetLeft];
    if (start < this.#list.scrollLeft) this.#list.scrollLeft = start;
    else if (end > this.#list.scrollLeft + this.#list.clientWidth) this.#list.scrollLeft = end - this.#list.clientWidth;
  }

  #press(event) {
    const shown = [...this.#tiles];
    const at = shown.findIndex(([, { button }]) => button === document.activeElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = shown.length - 1;
    const next = { ArrowRight: Math.min(last, at + 1), ArrowLeft: Math.max(0, at - 1), Home: 0, End: last }[event.key];
    if (next !== undefined) shown[next][1].button.focus();
    else if (event.key === "Delete" || event.key === "Backspace") {
      (shown[at + 1] ?? shown[at - 1])?.[1].button.focus();
      this.#remove(shown[at][0]);
    } else return;
    event.preventDefault();
  }
}

/** Fill a tile with the middle of an image. */
function drawThumbnail(canvas, bitmap) {
  Object.assign(canvas, { width: EDGE, height: (EDGE * 3) / 4 });
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}
