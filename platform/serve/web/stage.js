// The two canvases: the image with what was found in it, and over it the one object that is singled out.
import { drawShapes, drawSingle, pathOf } from "./drawing.js";
import { listenToHands } from "./gestures.js";
import { isInside } from "./masks.js";
import { View } from "./view.js";

const LONGEST_EDGE = 4096; // of the canvases
const CRISP = 2; // canvas pixels for one of the image, from which on single pixels are shown as squares
const VEIL = "rgb(8 10 14 / 0.62)";
const NOTHING = { shapes: [], others: null, masks: true, boxes: true, labels: true, keypoints: true, opacity: 0.4 };

export class Stage {
  #frame;
  #base;
  #over;
  #zoomed;
  #view = new View();
  #image = null; // {bitmap, whole, width, height}, see worker.js
  #ratio = 1; // pixels of the canvas for one of the page
  #wanted = NOTHING;
  #split = 0.5; // of the window's width, where two answers are compared
  #single = null;
  #frameRequest = 0;

  /** frame holds canvases #picture and #over; zoomed(view) is called when the view has moved, pressed(shape) of a press. */
  constructor(frame, zoomed, pressed) {
    this.#frame = frame;
    this.#base = frame.querySelector("#picture");
    this.#over = frame.querySelector("#over");
    this.#zoomed = zoomed;
    listenToHands(frame, this.#view, () => this.#moved(), (x, y) => pressed(this.#find(x, y)));
    new ResizeObserver(() => this.#fit()).observe(frame);
    addEventListener("resize", () => this.#fit());
  }

  /** Show an image with nothing found in it yet, or none; all its pixels are seen where it is zoomed in. */
  show(image) {
    this.#image = image;
    if (!image) return;
    this.#wanted = { ...this.#wanted, shapes: [], others: null };
    this.#single = null;
    this.#view.show(image.width, image.height);
    this.#fit(true);
  }

  /**
   * Draw shapes, best first, of which masks, boxes, labels and keypoints (booleans) are wanted; soon, not at once.
   * With `others` the shapes stand left of the split, and those others right of it.
   */
  draw(wanted) {
    this.#wanted = wanted;
    this.#drawSoon();
  }

  /** Where two answers meet, as a share of the window's width. */
  split(share) {
    this.#split = share;
    this.#drawSoon();
  }

  /** Do something with the view: zoomBy, zoomTo, fit. */
  zoom(change) {
    change(this.#view);
    this.#moved();
  }

  /** Veil everything but one shape; null takes the veil away. */
  singleOut(shape) {
    if (shape === this.#single) return;
    this.#single = shape;
    this.#drawOver();
  }

  /** The shape that is seen at a point of the page: the smallest whose mask is there, or box where it has no mask. */
  findAt(clientX, clientY) {
    const { left, top } = this.#base.getBoundingClientRect();
    return this.#find(clientX - left, clientY - top);
  }

  #find(windowX, windowY) {
    const [x, y] = this.#view.toImage(windowX, windowY);
    const { shapes, others } = this.#wanted;
    const there = others && windowX > this.#split * this.#frame.clientWidth ? others : shapes;
    let found = null;
    for (const shape of there) {
      const [boxX, boxY, width, height] = shape.bbox;
      const inside = shape.mask
        ? isInside(shape.mask, Math.floor(x), Math.floor(y))
        : x >= boxX && y >= boxY && x < boxX + width && y < boxY + height;
      if (inside && !(found && found.pixels <= shape.pixels)) found = shape;
    }
    return found;
  }

  #moved() {
    this.#zoomed(this.#view);
    this.#drawSoon();
  }

  #fit(always = false) {
    const { clientWidth: width, clientHeight: height } = this.#frame;
    if (!this.#image || !width || !height) return;
    this.#view.resize(width, height);
    this.#zoomed(this.#view);
    this.#ratio = Math.min(devicePixelRatio || 1, LONGEST_EDGE / Math.max(width, height));
    const [across, down] = [width, height].map((length) => Math.round(length * this.#ratio));
    if (!always && across === this.#base.width && down === this.#base.height) return this.#drawSoon();
    for (const canvas of [this.#base, this.#over]) Object.assign(canvas, { width: across, height: down });
    this.#draw(); // at once, as a canvas is empty after a change of its size
  }

  #drawSoon() {
    this.#frameRequest ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frameRequest);
    this.#frameRequest = 0;
    if (!this.#image) return;
    const context = this.#base.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#base.width, this.#base.height);
    const place = this.#inImage(context);
    this.#drawImage(context, place);
    const { shapes, others } = this.#wanted;
    if (!others) drawShapes(context, shapes, this.#wanted, place, this.#view.seen);
    else {
      const edge = Math.round(this.#split * this.#base.width);
      this.#drawPart(context, shapes, place, 0, edge);
      this.#drawPart(context, others, place, edge, this.#base.width);
    }
    const { scale, left, top } = this.#view;
    this.#base.dataset.view = `${scale} ${left} ${top}`; // for those who look at the page with a program
    this.#drawOver();
  }

  #drawPart(context, shapes, place, start, end) {
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(start, 0, end - start, this.#base.height);
    context.clip();
    this.#inImage(context);
    drawShapes(context, shapes, this.#wanted, place, this.#view.seen);
    context.restore();
  }

  #drawOver() {
    const context = this.#over.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#over.width, this.#over.height);
    const shape = this.#single;
    if (!shape || !this.#image) return;
    const place = this.#inImage(context);
    context.fillStyle = VEIL;
    context.fillRect(0, 0, this.#image.width, this.#image.height);
    context.save();
    context.clip(pathOf(shape, this.#wanted), "evenodd");
    this.#drawImage(context, place);
    context.restore();
    drawSingle(context, shape, this.#wanted, place);
  }

  /** Let a context measure in pixels of the image; gives its place on the canvas. */
  #inImage(context) {
    const ratio = this.#ratio;
    const [scale, left, top] = [this.#view.scale, this.#view.left, this.#view.top].map((value) => value * ratio);
    context.setTransform(scale, 0, 0, scale, left, top);
    return { scale, left, top, ratio };
  }

  #drawImage(context, { scale }) {
    const { bitmap, whole, width, height } = this.#image;
    // Of the copy that is drawn while it is fine enough.
    const [shrunk, squeezed] = [bitmap.width / width, bitmap.height / height];
    context.imageSmoothingEnabled = scale < CRISP;
    context.imageSmoothingQuality = "high";
    const [x, y, across, down] = this.#view.seen;
    if (whole && scale > shrunk) context.drawImage(whole, x, y, across, down, x, y, across, down);
    else context.drawImage(bitmap, x * shrunk, y * squeezed, across * shrunk, down * squeezed, x, y, across, down);
  }
}
