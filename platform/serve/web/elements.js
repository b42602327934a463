// Elements of the page, made and filled; text goes in as text, whatever it holds.

export const get = (id) => document.getElementById(id);

/** An element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The mark of a shape or class in a list, see paintSwatch. */
export function swatch() {
  return element("span", { className: "swatch", ariaHidden: "true" });
}

/** Give a mark its colour, and the line of the outline that has a number; with neither it is hidden. */
export function paintSwatch(mark, color, outline = 0) {
  mark.hidden = !color;
  if (!color) return;
  mark.style.borderColor = `rgb(${color})`;
  mark.style.backgroundColor = `rgb(${color.join(" ")} / 0.45)`;
  mark.dataset.outline = outline;
}

/** Show the rows whose names hold what is searched for, all where it is nothing; rows: iterable of [row, name]. */
export function searchRows(rows, wanted) {
  const text = wanted.trim().toLowerCase();
  for (const [row, name] of rows) row.classList.toggle("other", !name.toLowerCase().includes(text));
}
