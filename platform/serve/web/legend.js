// The classes of an answer with a check box each, how many objects there are, and a least score for each where wanted.
import { element, paintSwatch, searchRows, swatch } from "./elements.js";
import { shownName } from "./names.js";

export class Legend {
  #list;
  #change;
  #rows = new Map(); // category id: {row, box, mark, number, slider, told, name}
  #hidden = new Set(); // category ids; stays from image to image, as do least scores
  #least = new Map();

  /** change() is called when the reader hides or shows a class, or moves its least score. */
  constructor(list, change) {
    this.#list = list;
    this.#change = change;
  }

  /** Start anew with classes: Map of category id to name; paint() gives them colours. */
  fill(classes) {
    this.#rows.clear();
    for (const [id, name] of classes) this.#rows.set(id, this.#makeRow(id, shownName(name)));
    this.#list.replaceChildren(...[...this.#rows.values()].map(({ row }) => row));
  }

  get size() {
    return this.#rows.size;
  }

  isHidden(id) {
    return this.#hidden.has(id);
  }

  /** The least score of a class in percent, where it has one of its own. */
  least(id) {
    return this.#least.get(id);
  }

  /** Take the own least scores away, and show this one at all; `each` says whether each class has a slider. */
  limit(threshold, each) {
    this.#least.clear();
    this.#list.classList.toggle("each", each);
    for (const { slider, told } of this.#rows.values()) setLeast(slider, told, threshold);
  }

  /** Show how many objects there are of each class, from Maps of category id to number; others: of a second answer. */
  count(counts, others = null) {
    for (const [id, { row, number }] of this.#rows) {
      const [here, there] = [counts.get(id) ?? 0, others?.get(id) ?? 0];
      row.hidden = !here && !there && !this.#least.has(id);
      number.textContent = others ? `${here} | ${there}` : here;
    }
  }

  /** Take the colours of classes, or none where colours tell objects apart. */
  paint(colorOf) {
    for (const [id, { mark }] of this.#rows) paintSwatch(mark, colorOf(id));
  }

  /** Show the classes whose names hold a text. */
  search(text) {
    searchRows([...this.#rows.values()].map(({ row, name }) => [row, name]), text);
  }

  /** Check or uncheck all classes that are listed. */
  checkAll(checked) {
    for (const [id, { row, box }] of this.#rows) {
      if (row.hidden || row.classList.contains("other")) continue;
      box.checked = checked;
      this.#hide(id, !checked);
    }
    this.#change();
  }

  #hide(id, hidden) {
    if (hidden) this.#hidden.add(id);
    else this.#hidden.delete(id);
  }

  #makeRow(id, name) {
    const box = element("input", { type: "checkbox", checked: !this.#hidden.has(id) });
    const [mark, number] = [swatch(), element("span", { className: "number" })];
    const slider = element("input", { type: "range", min: 0, max: 100, step: 1, ariaLabel: `Least score of ${name}` });
    const told = element("output");
    const label = element("label", {}, box, mark, element("span", { className: "name", textContent: name }), number);
    const row = element("li", {}, label, element("div", { className: "least" }, slider, told));
    box.addEventListener("change", () => {
      this.#hide(id, !box.checked);
      this.#change();
    });
    slider.addEventListener("input", () => {
      this.#least.set(id, Number(slider.value));
      setLeast(slider, told, slider.value);
      this.#change();
    });
    setLeast(slider, told, this.#least.get(id) ?? document.getElementById("threshold").value);
    return { row, box, mark, number, slider, told, name };
  }
}

function setLeast(slider, told, threshold) {
  slider.value = threshold;
  slider.setAttribute("aria-valuetext", `${threshold} %`);
  told.textContent = `${threshold} %`;
}
