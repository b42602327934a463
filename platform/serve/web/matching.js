// Which objects two answers to one image have in common; no document.

const LEAST_OVERLAP = 0.5;

/** {both, first, second}: how many objects both have, and how many only one; of one class and with boxes that overlap. */
export function matchShapes(first, second) {
  const free = new Set(second);
  let both = 0;
  for (const shape of first) {
    const rivals = [...free].filter(({ name }) => name === shape.name).map((other) => [overlap(shape.bbox, other.bbox), other]);
    const [most, best] = rivals.reduce((one, other) => (other[0] > one[0] ? other : one), [0, null]);
    if (most < LEAST_OVERLAP) continue;
    free.delete(best);
    both++;
  }
  return { both, first: first.length - both, second: free.size };
}

/** Intersection over union of two boxes x y width height. */
export function overlap([x0, y0, width0, height0], [x1, y1, width1, height1]) {
  const across = Math.min(x0 + width0, x1 + width1) - Math.max(x0, x1);
  const down = Math.min(y0 + height0, y1 + height1) - Math.max(y0, y1);
  if (across <= 0 || down <= 0) return 0;
  return (across * down) / (width0 * height0 + width1 * height1 - across * down);
}
