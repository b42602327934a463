// The controls beside the image: least score, what is shown, opacity, colours; kept from image to image.
import { get } from "./elements.js";

export const MANY = 12; // classes from which on they are searched
const SHOWN = ["masks", "boxes", "labels", "keypoints"];

export class Controls {
  #legend;

  /** change({repaint}) is called when the reader moved something; repaint where colours changed. */
  constructor(legend, change) {
    this.#legend = legend;
    get("threshold").addEventListener("input", () => this.setThreshold(this.threshold, change));
    get("each").addEventListener("change", () => this.setThreshold(this.threshold, change));
    get("opacity").addEventListener("input", () => change());
    for (const name of SHOWN) get(`show-${name}`).addEventListener("change", () => change());
    for (const name of ["classes", "objects"]) get(`color-${name}`).addEventListener("change", () => change({ repaint: true }));
    get("class-search").addEventListener("input", ({ target }) => legend.search(target.value));
    get("all-classes").addEventListener("click", () => legend.checkAll(true));
    get("no-classes").addEventListener("click", () => legend.checkAll(false));
  }

  /** Least score in percent. */
  get threshold() {
    return Number(get("threshold").value);
  }

  /** Set the least score of all classes. */
  setThreshold(percent, change) {
    get("threshold").value = percent;
    this.#legend.limit(percent, get("each").checked);
    change();
  }

  /** Least score of a class in percent. */
  least(id) {
    return this.#legend.least(id) ?? this.threshold;
  }

  get byClass() {
    return get("color-classes").checked;
  }

  /** What is to be drawn, see drawing.js. */
  get wanted() {
    const shown = Object.fromEntries(SHOWN.map((name) => [name, get(`show-${name}`).checked]));
    return { ...shown, opacity: get("opacity").value / 100 };
  }

  /** Offer what a model can give at all. */
  offer({ masks, keypoints }) {
    for (const [name, there] of Object.entries({ masks, keypoints })) get(`show-${name}`).parentElement.hidden = !there;
    get("opacity-row").hidden = !masks;
  }

  /** Tell the values of the sliders. */
  tell() {
    for (const id of ["threshold", "opacity"]) {
      const text = `${get(id).value} %`;
      get(`${id}-value`).textContent = text;
      get(id).setAttribute("aria-valuetext", text);
    }
    get("search-row").hidden = this.#legend.size < MANY;
  }

  /** Options of a request that asks for what is shown. */
  options(ids) {
    const { masks, keypoints } = this.wanted;
    const least = Math.min(this.threshold, ...ids.map((id) => this.least(id)));
    const options = { score_threshold: least / 100 };
    if (!masks && !get("show-masks").parentElement.hidden) options.masks = false;
    if (!keypoints && !get("show-keypoints").parentElement.hidden) options.keypoints = false;
    return options;
  }
}
