// What stands beside the photograph: the classes and objects found, in lists that the keyboard walks through, and times.

/** An element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const percent = (score) => `${Math.round(score * 100)} %`;

function swatch() {
  return element("span", { className: "swatch", ariaHidden: "true" });
}

/** The classes of an answer with a check box each; `change` is called with the set of category ids to hide. */
export class Legend {
  #list;
  #change;
  #rows = new Map();

  constructor(list, change) {
    this.#list = list;
    this.#change = change;
  }

  /** Start anew with classes: Map of category id to name, all shown; paint() gives them colours. */
  fill(classes) {
    this.#rows.clear();
    for (const [id, name] of classes) {
      const box = element("input", { type: "checkbox", checked: true });
      const count = element("span", { className: "number" });
      box.addEventListener("change", () => this.#change(this.#hidden()));
      const row = element("li", {}, element("label", {}, box, swatch(), element("span", { textContent: name }), count));
      this.#rows.set(id, { row, box, count });
    }
    this.#list.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
  }

  /** Show how many objects there are of each class, from a Map of category id to number. */
  count(counts) {
    for (const [id, { row, count }] of this.#rows) {
      row.hidden = !counts.get(id);
      count.textContent = counts.get(id) ?? 0;
    }
  }

  /** Take the colours of classes, or none where colours tell objects apart. */
  paint(colorOf) {
    for (const [id, { row }] of this.#rows) {
      const color = colorOf(id);
      row.querySelector(".swatch").hidden = !color;
      if (color) row.querySelector(".swatch").style.background = `rgb(${color})`;
    }
  }

  #hidden() {
    return new Set([...this.#rows].filter(([, { box }]) => !box.checked).map(([id]) => id));
  }
}

/** The objects of an answer as a list box: arrows walk, a letter jumps; `point` is called with the shape or null. */
export class Objects {
  #list;
  #point;
  #rows = new Map();
  #active = null;

  constructor(list, point) {
    this.#list = list;
    this.#point = point;
    list.addEventListener("keydown", (event) => this.#press(event));
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) point(this.#shapeOf(row), true);
    });
    // Not "pointerover", which also comes when rows move under a mouse that rests.
    list.addEventListener("pointermove", (event) => {
      const row = event.target.closest("[role=option]");
      if (row && event.pointerType === "mouse") point(this.#shapeOf(row), false);
    });
    list.addEventListener("pointerleave", () => point(null, false));
  }

  /** Start anew with the shapes of an answer, best first; paint() gives them colours. */
  fill(shapes) {
    this.#rows.clear();
    shapes.forEach((shape, index) => {
      const size = `${Math.round(shape.bbox[2])} × ${Math.round(shape.bbox[3])}`;
      const parts = [
        swatch(),
        element("span", { className: "name", textContent: shape.category }),
        element("span", { className: "size", textContent: size, title: "width × height of the box in pixels" }),
        element("span", { className: "number", textContent: percent(shape.score) }),
      ];
      const row = element("li", { id: `object-${index}`, role: "option", ariaSelected: "false" }, ...parts);
      row.setAttribute("aria-label", `${shape.category} ${percent(shape.score)}, ${size.replace("×", "by")} pixels`);
      this.#rows.set(shape, row);
    });
    this.#list.replaceChildren(...this.#rows.values());
    this.mark(null);
  }

  /** Show the rows of some shapes alone. */
  limit(shown) {
    const kept = new Set(shown);
    for (const [shape, row] of this.#rows) row.hidden = !kept.has(shape);
  }

  /** Take the present colours of the shapes. */
  paint() {
    for (const [shape, row] of this.#rows) row.querySelector(".swatch").style.background = `rgb(${shape.color})`;
  }

  /** Mark the row of the shape that is singled out, and bring it into view within the list. */
  mark(shape) {
    if (this.#active) this.#rows.get(this.#active)?.setAttribute("aria-selected", "false");
    this.#active = shape;
    const row = this.#rows.get(shape);
    if (!row) return this.#list.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    this.#list.setAttribute("aria-activedescendant", row.id);
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    if (top < this.#list.scrollTop) this.#list.scrollTop = top;
    else if (bottom > this.#list.scrollTop + this.#list.clientHeight) this.#list.scrollTop = bottom - this.#list.clientHeight;
  }

  #shapeOf(row) {
    return [...this.#rows].find(([, one]) => one === row)[0];
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = [...this.#rows].filter(([, row]) => !row.hidden).map(([shape]) => shape);
    const at = shown.indexOf(this.#active);
    const last = shown.length - 1;
    const moves = { ArrowDown: Math.min(last, at + 1), ArrowUp: Math.max(0, at - 1), Home: 0, End: last };
    moves.PageDown = Math.min(last, at + 10);
    moves.PageUp = Math.max(0, at - 10);
    let next = moves[event.key];
    if (next === undefined && /^\p{L}$/u.test(event.key)) {
      const order = [...shown.slice(at + 1), ...shown.slice(0, at + 1)];
      const found = order.find(({ category }) => category.toLowerCase().startsWith(event.key.toLowerCase()));
      next = found && shown.indexOf(found);
    }
    if (next === undefined || !shown.length) return;
    event.preventDefault();
    this.#point(shown[next], true);
  }
}

const PARTS = { receive: "receiving", wait: "waiting for a batch", decode: "decoding", predict: "model" };

/** Write times as rows of a table: the round trip and its parts, in seconds, the server's by the names it gives them. */
export function listTimes(list, roundTrip, seconds, drawing) {
  const { total, ...parts } = seconds;
  const rows = Object.entries(parts).map(([key, value]) => [PARTS[key] ?? key, value]);
  if (total !== undefined) rows.push(["network and browser", Math.max(0, roundTrip - total)]);
  const all = [["Round trip", roundTrip], ...rows, ["outlines of masks, here", drawing]];
  const terms = all.map(([name, value]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: `${Math.round(value * 1000)} ms` }),
  ]);
  list.replaceChildren(...terms.flat());
}
