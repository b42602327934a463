// The two canvases: the photograph with what was found in it, and over it the one object that is singled out.
import { inkOn } from "./colors.js";
import { isInside } from "./masks.js";
import { drawSkeleton } from "./skeletons.js";

const AROUND = 250; // pixels of the page above and below the photograph, so that header and samples are seen with it
const LEAST_HEIGHT = 240;
const MOST_ENLARGED = 6; // pixels of the page for one of the photograph
const LONGEST_EDGE = 2560; // of the canvases
const TINT = 0.42;
const VEIL = "rgb(8 10 14 / 0.62)";
const FONT_PIXELS = 13;

export class Stage {
  #frame;
  #base;
  #over;
  #photograph = null; // {bitmap, width, height}, width and height in the photograph's own pixels
  #scale = 1; // pixels of the page for one of the photograph
  #ratio = 1; // pixels of the canvas for one of the page
  #view = { shapes: [], masks: true, boxes: true, labels: true, keypoints: true };
  #single = null;
  #frameRequest = 0;

  /** frame holds canvases #picture and #over, and is as wide as they may become. */
  constructor(frame) {
    this.#frame = frame;
    this.#base = frame.querySelector("#picture");
    this.#over = frame.querySelector("#over");
    new ResizeObserver(() => this.#fit()).observe(frame);
    addEventListener("resize", () => this.#fit());
  }

  /** Show a photograph {bitmap, width, height} with nothing found in it yet. */
  show(photograph) {
    this.#photograph = photograph;
    this.#view = { ...this.#view, shapes: [] };
    this.#single = null;
    this.#fit(true);
  }

  /** Draw shapes, best first, of which masks, boxes, labels and keypoints (booleans) are wanted; soon, not at once. */
  draw(view) {
    this.#view = view;
    this.#drawSoon();
  }

  /** Veil everything but one shape; null takes the veil away. */
  singleOut(shape) {
    if (shape === this.#single) return;
    this.#single = shape;
    this.#drawOver();
  }

  /** The shape that is seen at a point of the page: the smallest whose mask is there, or box where it has no mask. */
  find(clientX, clientY) {
    const { left, top } = this.#base.getBoundingClientRect();
    const [x, y] = [(clientX - left) / this.#scale, (clientY - top) / this.#scale];
    let found = null;
    for (const shape of this.#view.shapes) {
      const [boxX, boxY, width, height] = shape.bbox;
      const inside = shape.mask
        ? isInside(shape.mask, Math.floor(x), Math.floor(y))
        : x >= boxX && y >= boxY && x < boxX + width && y < boxY + height;
      if (inside && !(found && found.pixels <= shape.pixels)) found = shape;
    }
    return found;
  }

  /** What is drawn, as a PNG file. */
  toBlob() {
    return new Promise((resolve) => this.#base.toBlob(resolve));
  }

  #fit(always = false) {
    if (!this.#photograph) return;
    const { width, height } = this.#photograph;
    const most = Math.max(LEAST_HEIGHT, Math.min(innerHeight - AROUND, innerWidth < 832 ? innerHeight * 0.45 : Infinity));
    const scale = Math.min(this.#frame.clientWidth / width, most / height, MOST_ENLARGED);
    const pageWidth = Math.max(1, Math.round(width * scale));
    const pageHeight = Math.max(1, Math.round(height * scale));
    const ratio = Math.min(devicePixelRatio || 1, LONGEST_EDGE / Math.max(pageWidth, pageHeight));
    if (!always && scale === this.#scale && ratio === this.#ratio) return;
    [this.#scale, this.#ratio] = [scale, ratio];
    for (const canvas of [this.#base, this.#over]) {
      canvas.width = Math.max(1, Math.round(pageWidth * ratio));
      canvas.height = Math.max(1, Math.round(pageHeight * ratio));
      canvas.style.width = `${pageWidth}px`;
      canvas.style.height = `${pageHeight}px`;
    }
    this.#draw(); // at once, as a canvas is empty after a change of its size
  }

  #drawSoon() {
    this.#frameRequest ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frameRequest);
    this.#frameRequest = 0;
    if (!this.#photograph) return;
    const { shapes, masks, boxes, labels, keypoints } = this.#view;
    const context = this.#base.getContext("2d");
    this.#inPhotograph(context);
    this.#drawPhotograph(context);
    const unit = 1 / this.#scale;
    const largestFirst = [...shapes].sort((a, b) => b.pixels - a.pixels);
    if (masks) for (const shape of largestFirst) if (shape.path) drawMask(context, shape, unit);
    if (boxes) for (const shape of largestFirst) drawBox(context, shape, 1.5 * unit);
    if (keypoints) for (const shape of largestFirst) if (shape.skeleton) drawSkeleton(context, shape.skeleton, unit);
    if (labels) {
      const taken = []; // the best choose first; who finds no place has none until singled out
      for (const shape of shapes) this.#drawLabel(context, shape, taken);
    }
    this.#drawOver();
  }

  #drawOver() {
    const context = this.#over.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#over.width, this.#over.height);
    const shape = this.#single;
    if (!shape || !this.#photograph) return;
    context.fillStyle = VEIL;
    context.fillRect(0, 0, this.#over.width, this.#over.height);
    this.#inPhotograph(context);
    context.save();
    context.clip(shape.path && this.#view.masks ? shape.path : boxPath(shape), "evenodd");
    this.#drawPhotograph(context);
    context.restore();
    const unit = 1 / this.#scale;
    if (shape.path && this.#view.masks) drawOutline(context, shape, 2.5 * unit);
    drawBox(context, shape, 2 * unit);
    if (shape.skeleton && this.#view.keypoints) drawSkeleton(context, shape.skeleton, unit);
    this.#drawLabel(context, shape, null);
  }

  /** Let a context measure in pixels of the photograph. */
  #inPhotograph(context) {
    const { width, height } = this.#photograph;
    context.setTransform(this.#base.width / width, 0, 0, this.#base.height / height, 0, 0);
  }

  #drawPhotograph(context) {
    const { bitmap, width, height } = this.#photograph;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
  }

  /** Write a label where it hides none of those taken; with null for taken it is written in any case. */
  #drawLabel(context, shape, taken) {
    const { width: canvasWidth, height: canvasHeight } = this.#base;
    const size = FONT_PIXELS * this.#ratio;
    const canvas = { width: canvasWidth, height: canvasHeight };
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.font = `600 ${size}px system-ui, sans-serif`;
    const width = context.measureText(shape.title).width + size * 0.7;
    const toCanvas = this.#scale * this.#ratio;
    const box = shape.bbox.map((value) => value * toCanvas);
    const place = placeLabel(box, width, size * 1.4, canvas, taken ?? []) ?? (taken ? null : placeAnywhere(box, size * 1.4));
    if (place) {
      taken?.push(place);
      context.fillStyle = `rgb(${shape.color})`;
      context.beginPath();
      context.roundRect(place.x, place.y, place.width || width, place.height, size * 0.25);
      context.fill();
      context.fillStyle = inkOn(shape.color);
      context.textBaseline = "middle";
      context.fillText(shape.title, place.x + size * 0.35, place.y + place.height / 2 + size * 0.05);
    }
    context.restore();
  }
}

function drawMask(context, shape, unit) {
  context.fillStyle = `rgb(${shape.color.join(" ")} / ${TINT})`;
  context.fill(shape.path, "evenodd");
  drawOutline(context, shape, 1.5 * unit);
}

function drawOutline(context, shape, width) {
  context.lineWidth = width;
  context.lineJoin = "round";
  context.strokeStyle = `rgb(${shape.color})`;
  context.stroke(shape.path);
}

function drawBox(context, shape, width) {
  context.lineWidth = width;
  context.strokeStyle = `rgb(${shape.color})`;
  context.strokeRect(...shape.bbox);
}

function boxPath(shape) {
  const path = new Path2D();
  path.rect(...shape.bbox);
  return path;
}

/** The first place inside a canvas where a label hides no other: above its box, below it, inside it; null if none. */
function placeLabel([left, top, boxWidth, boxHeight], width, height, canvas, taken) {
  if (width > canvas.width || height > canvas.height) return null;
  const right = left + boxWidth - width;
  const bottom = top + boxHeight;
  const corners = [[left, top - height], [left, bottom], [right, top - height], [left, top], [right, bottom], [left, bottom - height]];
  const places = corners.map(([x, y]) => ({
    x: Math.max(0, Math.min(x, canvas.width - width)),
    y: Math.max(0, Math.min(y, canvas.height - height)),
    width,
    height,
  }));
  const free = (a) =>
    !taken.some((b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height);
  return places.find(free) ?? null;
}

/** At the left edge of a canvas that is too narrow for the label. */
function placeAnywhere([, top], height) {
  return { x: 0, y: Math.max(0, top - height), width: 0, height };
}
