// A second server that the operator named: asked about the same image, its answer is shown right of a line that moves.
import { get } from "./elements.js";
import { matchShapes } from "./matching.js";
import { count, shownName } from "./names.js";
import { Server, ServerError } from "./server.js";
import { makeShapes } from "./shapes.js";

const HANDLE = 36; // pixels of the line's handle, as in style.css

export class Comparison {
  #server;
  #queue;
  #labels = null;

  /** address: of the second server; askKey as in server.js; changed() is called when it is switched on or off. */
  constructor(address, askKey, queue, changed, moved) {
    this.#server = new Server(new URL(address), askKey);
    this.#queue = queue;
    get("compare").hidden = false;
    get("compare-host").textContent = this.#server.url("/").host;
    get("promise").textContent = `An image goes to this server, and to ${this.#server.url("/").host} where you compare.`;
    get("compare-on").addEventListener("change", changed);
    get("divider").addEventListener("input", () => moved(this.share));
    new ResizeObserver(() => moved(this.share)).observe(get("divider"));
  }

  get isOn() {
    return get("compare-on").checked;
  }

  /** Where the line is, as a share of the stage's width. */
  get share() {
    const width = get("divider").clientWidth;
    const share = (HANDLE / 2 + (get("divider").value / 100) * (width - HANDLE)) / Math.max(1, width);
    get("divider-line").style.left = `${100 * share}%`;
    return share;
  }

  /**
   * {model, shapes} that the second server found in the image of an entry, which is asked once; labels are those of the
   * first model, whose classes of the same names they are.
   */
  async find(entry, file, labels) {
    const signal = entry.controller.signal;
    try {
      this.#labels ??= (await this.#server.json("v1/model", { signal })).labels;
      entry.other ??= await this.#queue.add(() => this.#server.predict(file, signal), { signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(`${this.#server.url("/").host}: ${error.message}`, error);
    }
    const shapes = await makeShapes(entry.other.detections, this.#labels);
    for (const shape of shapes) rename(shape, labels);
    return { model: entry.other.model, shapes };
  }

  /** Show the line and both names, or take them away where there is no second answer. */
  show(model, other) {
    for (const id of ["divider", "divider-line", "left-name", "right-name"]) get(id).hidden = !other;
    get("compare-told").hidden = !other;
    if (!other) return;
    const short = model.name === other.model.name && model.version !== other.model.version;
    get("left-name").textContent = called(model, short);
    get("right-name").textContent = called(other.model, short);
  }

  /** Say what two answers have in common, as they are shown. */
  tell(shown, others) {
    const { both, first, second } = matchShapes(shown, others);
    get("compare-told").textContent = `${count(both, "object")} in both, ${first} only left, ${second} only right`;
  }
}

/** Name and version of a model, or the version alone where that is enough. */
function called({ name, version }, short) {
  if (short) return version ? `version ${shownName(version)}` : "no version";
  return shownName(version ? `${name}, version ${version}` : name);
}

/** Give a shape the id and the colour that its class has in another model, by its name; its own where that has none. */
function rename(shape, labels) {
  const index = labels.findIndex(({ name }) => name === shape.category);
  shape.category_id = index < 0 ? `other ${shape.category_id}` : labels[index].id;
  shape.classIndex = index < 0 ? labels.length + shape.classIndex : index;
}
