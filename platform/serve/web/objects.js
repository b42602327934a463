// The objects of an answer, in a list that the keyboard walks through.
import { element, paintSwatch, swatch } from "./elements.js";
import { percent } from "./names.js";

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
      const name = element("span", { className: "name", textContent: shape.name });
      const parts = [
        swatch(),
        name,
        element("span", { className: "size", textContent: size, title: "width × height of the box in pixels" }),
        element("span", { className: "number", textContent: percent(shape.score) }),
      ];
      const row = element("li", { id: `object-${index}`, role: "option", ariaSelected: "false" }, ...parts);
      this.#rows.set(shape, { row, name, size: size.replace("×", "by") });
    });
    this.#list.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
    this.mark(null);
  }

  /** Show the rows of some shapes alone, by what they are called now. */
  limit(shown) {
    const kept = new Set(shown);
    for (const [shape, { row, name, size }] of this.#rows) {
      row.hidden = !kept.has(shape);
      if (row.hidden) continue;
      name.textContent = shape.call;
      row.setAttribute("aria-label", `${shape.call} ${percent(shape.score)}, ${size} pixels`);
    }
  }

  /** Take the present colours of the shapes; with outlines as well where those tell them apart. */
  paint(outlined) {
    for (const [shape, { row }] of this.#rows) {
      paintSwatch(row.querySelector(".swatch"), shape.color, outlined ? shape.outline : 0);
    }
  }

  /** Mark the row of the shape that is singled out, and bring it into view within the list. */
  mark(shape) {
    if (this.#active) this.#rows.get(this.#active)?.row.setAttribute("aria-selected", "false");
    this.#active = shape;
    const row = this.#rows.get(shape)?.row;
    if (!row) return this.#list.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    this.#list.setAttribute("aria-activedescendant", row.id);
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    if (top < this.#list.scrollTop) this.#list.scrollTop = top;
    else if (bottom > this.#list.scrollTop + this.#list.clientHeight) this.#list.scrollTop = bottom - this.#list.clientHeight;
  }

  #shapeOf(row) {
    return [...this.#rows].find(([, one]) => one.row === row)[0];
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = [...this.#rows].filter(([, { row }]) => !row.hidden).map(([shape]) => shape);
    const at = shown.indexOf(this.#active);
    const last = shown.length - 1;
    const moves = { ArrowDown: Math.min(last, at + 1), ArrowUp: Math.max(0, at - 1), Home: 0, End: last };
    moves.PageDown = Math.min(last, at + 10);
    moves.PageUp = Math.max(0, at - 10);
    let next = moves[event.key];
    if (next === undefined && /^\p{L}$/u.test(event.key)) {
      const order = [...shown.slice(at + 1), ...shown.slice(0, at + 1)];
      const found = order.find(({ name }) => name.toLowerCase().startsWith(event.key.toLowerCase()));
      next = found && shown.indexOf(found);
    }
    if (next === undefined || !shown.length) return;
    event.preventDefault();
    this.#point(shown[next], true);
  }
}
