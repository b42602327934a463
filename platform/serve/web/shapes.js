// What the server found, made ready to be drawn: outlines as paths, skeletons, titles and colours.
import { classColor, objectColor } from "./colors.js";
import { traceMasks } from "./jobs.js";
import { percent, shownName } from "./names.js";
import { readSkeleton } from "./skeletons.js";

const NUM_OUTLINES = 3; // kinds of lines, see drawing.js

/**
 * Detections as shapes, in the same order: what the server said of them, and
 *
 * mask (of masks.js), pixels (its area, or that of the box), path of its outlines and skeleton in pixels of the image,
 * classIndex among the labels, name of the class as it may be shown, number of the object in its class from 1.
 */
export async function makeShapes(detections, labels) {
  const traced = await traceMasks(detections.map(({ segmentation }) => segmentation ?? null));
  const indices = new Map(labels.map((label, index) => [label.id, index]));
  const seen = new Map();
  return detections.map((found, index) => {
    const one = traced[index];
    const classIndex = indices.get(found.category_id);
    const number = (seen.get(found.category_id) ?? 0) + 1;
    seen.set(found.category_id, number);
    return {
      ...found,
      name: shownName(found.category),
      number,
      outline: (number - 1) % NUM_OUTLINES,
      mask: one?.mask ?? null,
      pixels: one?.pixels ?? found.bbox[2] * found.bbox[3],
      path: one ? joinOutlines(one.outlines) : null,
      skeleton: found.keypoints ? readSkeleton(found.keypoints, labels[classIndex]) : null,
      classIndex: classIndex ?? found.category_id,
    };
  });
}

function joinOutlines(outlines) {
  const path = new Path2D();
  for (const points of outlines) {
    path.moveTo(points[0], points[1]);
    for (let index = 2; index < points.length; index += 2) path.lineTo(points[index], points[index + 1]);
    path.closePath();
  }
  return path;
}

/** Give shapes their colours: one for each class, or one for each object. */
export function paintShapes(shapes, byClass) {
  shapes.forEach((shape, index) => (shape.color = byClass ? classColor(shape.classIndex) : objectColor(index)));
}

/** Give shapes that are shown their titles: where several of a class are, with the number of each. */
export function nameShapes(shown) {
  const counts = countClasses(shown);
  for (const shape of shown) {
    shape.call = counts.get(shape.category_id) > 1 ? `${shape.name} #${shape.number}` : shape.name;
    shape.title = `${shape.call}  ${percent(shape.score)}`;
  }
}

/** Number of shapes of each class: Map of category id to number. */
export function countClasses(shapes) {
  const counts = new Map();
  for (const { category_id } of shapes) counts.set(category_id, (counts.get(category_id) ?? 0) + 1);
  return counts;
}
