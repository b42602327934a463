// What was found in the image that is shown: drawn, listed, counted and filtered, which asks the server nothing.
import { classColor } from "./colors.js";
import { Controls } from "./controls.js";
import { get } from "./elements.js";
import { Legend } from "./legend.js";
import { count, percent } from "./names.js";
import { tell } from "./notices.js";
import { Objects } from "./objects.js";
import { countClasses, nameShapes, paintShapes } from "./shapes.js";
import { Stage } from "./stage.js";
import { listenToZoomBar, tellZoom } from "./zoom_bar.js";

export class Results {
  #stage = new Stage(get("frame"), tellZoom, (shape) => this.point(shape, true));
  #legend = new Legend(get("legend"), () => this.refresh());
  #objects = new Objects(get("objects"), (shape, keep) => {
    if (shape && keep) this.#stage.zoom((view) => view.reveal(shape.bbox));
    this.point(shape, keep);
  });
  #controls = new Controls(this.#legend, (options) => this.refresh(options));
  #changed;
  #image = null; // on the stage: {bitmap, whole, width, height}
  #pinned = null; // shape that was chosen by click or key
  #hovered = null; // shape under the mouse
  #seen = []; // shapes that are drawn
  #lower = 0; // least score in percent that would show something
  shown = null; // {entry, image, shapes, others, text} of the image whose results are shown

  /** changed() is called whenever something else is shown of an image. */
  constructor(changed) {
    this.#changed = changed;
    listenToZoomBar(this.#stage);
    get("frame").addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse" || event.buttons) return;
      this.point(this.#stage.findAt(event.clientX, event.clientY), false);
    });
    get("frame").addEventListener("pointerleave", () => this.point(null, false));
    get("lower").addEventListener("click", () => {
      this.#controls.setThreshold(this.#lower, () => this.refresh());
      get("summary").focus({ preventScroll: true });
    });
  }

  /** Take what a model can give at all. */
  offer(model) {
    this.#controls.offer(model);
  }

  /** Put an image on the stage before anything is known of it; the results of another one are out of reach. */
  present(image) {
    const before = this.#image;
    get("results").inert = true;
    get("drop").hidden = true;
    for (const id of ["frame", "zoom"]) get(id).hidden = false;
    this.point(null, true);
    this.#image = image;
    this.#stage.show(image);
    if (before !== image && before !== this.shown?.image) close(before);
  }

  /** Show what was found in an image. */
  show(shown) {
    const before = this.shown;
    if (this.#image !== shown.image) this.present(shown.image);
    this.shown = shown;
    if (before && before.image !== shown.image) close(before.image);
    get("results").inert = false;
    if (get("results").hidden) {
      get("results").hidden = false;
      get("side").after(get("samples")); // what was found comes first from now on, where all is one column
    }
    get("source").textContent = shown.text;
    this.fill();
  }

  /** List classes and objects anew, with those of a second answer where there is one. */
  fill() {
    const { shapes, others } = this.shown;
    this.#legend.fill(new Map([...shapes, ...(others ?? [])].map(({ category_id, category }) => [category_id, category])));
    this.#legend.search(get("class-search").value);
    this.#objects.fill(shapes);
    this.refresh({ repaint: true });
  }

  /** Back to what was there before an image that came to nothing. */
  restore() {
    if (!this.shown) return this.clear();
    this.present(this.shown.image);
    get("results").inert = false;
    this.refresh();
  }

  /** Nothing is shown any more, as at the start. */
  clear() {
    for (const id of ["frame", "zoom", "results"]) get(id).hidden = true;
    get("drop").hidden = false;
    get("side").before(get("samples"));
    if (this.shown && this.shown.image !== this.#image) close(this.shown.image);
    close(this.#image);
    this.#stage.show(null);
    this.#image = this.shown = null;
  }

  /** Draw and list what the controls let through. */
  refresh({ repaint = false } = {}) {
    this.#controls.tell();
    if (!this.shown) return this.#changed();
    const { shapes, others } = this.shown;
    if (repaint) this.#repaint([shapes, others ?? []]);
    const above = this.#passing(shapes);
    const [seen, seenOthers] = [above, others && this.#passing(others)].map((some) => some && this.#unhidden(some));
    this.#seen = seen;
    for (const some of [seen, seenOthers ?? []]) nameShapes(some);
    if (!seen.includes(this.#pinned)) this.#pinned = null;
    if (!seen.includes(this.#hovered)) this.#hovered = null;
    this.#stage.draw({ shapes: seen, others: seenOthers, ...this.wanted });
    this.#legend.count(countClasses(above), others && countClasses(this.#passing(others)));
    this.#objects.limit(seen);
    get("lists").hidden = above.length === 0 && !others;
    this.#singleOut();
    this.#summarize(above);
    this.#changed(seen, seenOthers);
  }

  /** What the controls want to have drawn. */
  get wanted() {
    return this.#controls.wanted;
  }

  /** The shapes that are drawn now. */
  get seen() {
    return this.#seen;
  }

  /** Options of a request whose answer holds what is shown. */
  get options() {
    return this.#controls.options([...new Set(this.shown?.shapes.map(({ category_id }) => category_id))]);
  }

  /** Move the line between two answers. */
  split(share) {
    this.#stage.split(share);
  }

  /** Single an object out: until the mouse leaves it, or for longer (keep); null lets go. */
  point(shape, keep) {
    if (keep) [this.#pinned, this.#hovered] = [shape, null];
    else this.#hovered = shape;
    this.#singleOut();
  }

  /** Let go of the object that is singled out; gives whether there was one. */
  letGo() {
    const held = this.#pinned !== null || this.#hovered !== null;
    if (held) this.point(null, true);
    return held;
  }

  #passing(shapes) {
    return shapes.filter(({ score, category_id }) => score >= this.#controls.least(category_id) / 100);
  }

  #unhidden(shapes) {
    return shapes.filter(({ category_id }) => !this.#legend.isHidden(category_id));
  }

  #repaint(answers) {
    const { byClass } = this.#controls;
    for (const shapes of answers) paintShapes(shapes, byClass);
    const indices = new Map(answers.flat().map(({ category_id, classIndex }) => [category_id, classIndex]));
    this.#legend.paint((id) => byClass && classColor(indices.get(id)));
    this.#objects.paint(byClass);
  }

  #singleOut() {
    const shape = this.#hovered ?? this.#pinned;
    this.#stage.singleOut(shape);
    this.#objects.mark(shape);
    get("frame").classList.toggle("found", shape !== null);
  }

  #summarize(above) {
    const { shapes, entry } = this.shown;
    const names = new Map();
    for (const { name } of this.#seen) names.set(name, (names.get(name) ?? 0) + 1);
    const listed = [...names].map(([name, number]) => `${number} ${name}`).join(", ");
    const number = count(this.#seen.length, "object");
    const best = shapes[0];
    const rest = this.#seen.length ? "" : this.#sayWhy(above, best);
    this.#lower = best ? Math.floor(100 * best.score) : 0;
    get("lower").hidden = above.length > 0 || !best;
    get("lower").textContent = `Lower the least score to ${this.#lower} %`;
    get("summary").textContent = number;
    get("why").textContent = rest;
    get("why").hidden = !rest;
    get("picture").setAttribute("aria-label", `Image ${entry.name}: ${number}${listed && `, ${listed}`}`);
    tell(`${number} with a score of ${get("threshold").value} % and more${listed && `: ${listed}`}${rest && `. ${rest}`}`);
  }

  /** Why nothing is shown. */
  #sayWhy(above, best) {
    if (above.length) return `${count(above.length, "object")} of classes that are not checked`;
    return best ? `The best of all has ${percent(best.score)}.` : "The model found nothing here, whatever the score.";
  }
}

function close(image) {
  image?.bitmap.close();
  image?.whole?.close();
}
