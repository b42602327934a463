// What is told of the model: its name, its limits, and the classes that it finds, with a search where they are many.
import { element, get, searchRows } from "./elements.js";
import { MANY } from "./controls.js";
import { count, megabytes, shownName } from "./names.js";

/** Tell of a model as /v1/model describes it. */
export function tellModel({ name, version, labels, limits, page }) {
  const classes = count(labels.length, "class", "classes");
  get("model").textContent = `${shownName(name)}${version ? `, version ${shownName(version)}` : ""}, ${classes}`;
  get("limits").textContent = `JPEG, PNG, WebP, TIFF, BMP or GIF, up to ${megabytes(limits.max_request_bytes)} and ${limits.max_image_pixels / 1e6} megapixels each`;
  for (const form of document.querySelectorAll("form.address")) form.hidden = !page?.image_addresses;
  const rows = labels.map((label) => [element("li", { textContent: shownName(label.name) }), shownName(label.name)]);
  get("classes").replaceChildren(...rows.map(([row]) => row));
  get("about-count").textContent = labels.length;
  const field = get("about-search");
  field.parentElement.hidden = labels.length < MANY;
  field.oninput = () => {
    searchRows(rows, field.value);
    get("about-none").hidden = rows.some(([row]) => !row.classList.contains("other"));
  };
  field.oninput();
}
