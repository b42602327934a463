// How objects are drawn: tinted masks, outlines that tell objects of a class apart, boxes, skeletons and labels.
import { inkOn } from "./colors.js";
import { drawSkeleton } from "./skeletons.js";

const FONT_PIXELS = 13; // of the page, and a little less on a narrow stage
const NARROW = 520;
const CASING = "rgb(10 12 16 / 0.7)"; // beside each line, so that it is seen on any ground and beside its like
// By the number of an object in its class, in pixels of the page; style.css draws swatches alike.
const DASHES = [[], [9, 5], [2, 4]];

/**
 * Draw shapes, best first, on a context that measures in pixels of the image.
 *
 * wanted: masks, boxes, labels, keypoints (booleans) and opacity (0 to 1) of masks. place: {scale, left, top} of the
 * image on the canvas in its pixels, and ratio, canvas pixels for one of the page. seen: part of the image on the canvas.
 */
export function drawShapes(context, shapes, wanted, place, seen) {
  const unit = place.ratio / place.scale;
  const there = shapes.filter(({ bbox }) => meets(bbox, seen));
  const largestFirst = [...there].sort((a, b) => b.pixels - a.pixels);
  if (wanted.masks) for (const shape of largestFirst) if (shape.path) drawMask(context, shape, wanted.opacity, unit);
  if (wanted.boxes) for (const shape of largestFirst) drawBox(context, shape, unit);
  if (wanted.keypoints) for (const shape of largestFirst) if (shape.skeleton) drawSkeleton(context, shape.skeleton, unit);
  if (!wanted.labels) return;
  const taken = []; // the best choose first; who finds no place has none until singled out
  for (const shape of there) drawLabel(context, shape, place, taken);
}

/** Draw one shape that is singled out, with its label in any case. */
export function drawSingle(context, shape, wanted, place) {
  const unit = place.ratio / place.scale;
  if (shape.path && wanted.masks) drawOutline(context, shape, 2.5 * unit, unit);
  drawBox(context, shape, unit);
  if (shape.skeleton && wanted.keypoints) drawSkeleton(context, shape.skeleton, unit);
  drawLabel(context, shape, place, null);
}

/** Whether a box is anywhere in a part of the image. */
function meets([x, y, width, height], [left, top, across, down]) {
  return x <= left + across && y <= top + down && x + width >= left && y + height >= top;
}

function drawMask(context, shape, opacity, unit) {
  context.fillStyle = `rgb(${shape.color.join(" ")} / ${opacity})`;
  context.fill(shape.path, "evenodd");
  drawOutline(context, shape, 1.75 * unit, unit);
}

function drawOutline(context, shape, width, unit) {
  context.lineJoin = "round";
  context.lineCap = "butt";
  context.lineWidth = width + 1.5 * unit;
  context.strokeStyle = CASING;
  context.stroke(shape.path);
  context.lineWidth = width;
  context.strokeStyle = `rgb(${shape.color})`;
  context.setLineDash(DASHES[shape.outline].map((length) => length * unit));
  context.stroke(shape.path);
  context.setLineDash([]);
}

function drawBox(context, shape, unit) {
  context.lineWidth = 2.5 * unit;
  context.strokeStyle = CASING;
  context.strokeRect(...shape.bbox);
  context.lineWidth = 1.5 * unit;
  context.strokeStyle = `rgb(${shape.color})`;
  context.strokeRect(...shape.bbox);
}

/** The part of the image that belongs to a shape: its mask where masks are wanted, else its box. */
export function pathOf(shape, wanted) {
  if (shape.path && wanted.masks) return shape.path;
  const path = new Path2D();
  path.rect(...shape.bbox);
  return path;
}

/** Write a label where it hides none of those taken; with null for taken it is written in any case. */
function drawLabel(context, shape, { scale, left, top, ratio }, taken) {
  const canvas = context.canvas;
  const size = (canvas.width / ratio < NARROW ? FONT_PIXELS - 2 : FONT_PIXELS) * ratio;
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const width = context.measureText(shape.title).width + size * 0.8;
  const [x, y, across, down] = shape.bbox;
  const box = [x * scale + left, y * scale + top, across * scale, down * scale];
  const room = placeLabel(box, width, size * 1.45, canvas, taken ?? []) ?? (taken ? null : placeAnywhere(box, width, size * 1.45));
  if (room) {
    taken?.push(room);
    context.fillStyle = `rgb(${shape.color})`;
    context.beginPath();
    context.roundRect(room.x, room.y, room.width, room.height, size * 0.25);
    context.fill();
    context.fillStyle = inkOn(shape.color);
    context.textBaseline = "middle";
    context.fillText(shape.title, room.x + size * 0.4, room.y + room.height / 2 + size * 0.05);
  }
  context.restore();
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
function placeAnywhere([, top], width, height) {
  return { x: 0, y: Math.max(0, top - height), width, height };
}
