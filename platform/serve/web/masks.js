// COCO run-length masks and how they are mixed into pixels; no document, so that it runs outside a browser too.

/** Run lengths of a compressed COCO mask: background first, then in turns, down the columns. */
export function decodeCounts(text) {
  const counts = [];
  let position = 0;
  while (position < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      if (position >= text.length) throw new Error("mask is cut short");
      const code = text.charCodeAt(position++) - 48;
      value |= (code & 0x1f) << shift;
      shift += 5;
      more = (code & 0x20) !== 0;
      if (!more && code & 0x10 && shift < 32) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/**
 * The part of a mask inside its box, sampled to the pixels of a canvas.
 *
 * segmentation {size: [height, width], counts}, bbox [x, y, width, height] in photograph pixels, scale = canvas pixels
 * per photograph pixel. Gives {left, top, width, height, inside: Uint8Array 0/1 by rows} in canvas pixels.
 */
export function cropMask(segmentation, bbox, scale) {
  const [height, width] = segmentation.size;
  const canvasWidth = Math.max(1, Math.round(width * scale));
  const canvasHeight = Math.max(1, Math.round(height * scale));
  const left = Math.max(0, Math.floor(bbox[0] * scale) - 1);
  const top = Math.max(0, Math.floor(bbox[1] * scale) - 1);
  const right = Math.min(canvasWidth, Math.ceil((bbox[0] + bbox[2]) * scale) + 1);
  const bottom = Math.min(canvasHeight, Math.ceil((bbox[1] + bbox[3]) * scale) + 1);
  const crop = { left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  const pixels = new Uint8Array(height * width);
  let start = 0;
  decodeCounts(segmentation.counts).forEach((count, index) => {
    if (index % 2 === 1) pixels.fill(1, start, start + count);
    start += count;
  });
  if (start !== height * width) throw new Error(`mask has ${start} pixels, not ${height} x ${width}`);
  const inside = new Uint8Array(crop.width * crop.height);
  for (let x = 0; x < crop.width; x++) {
    const column = Math.min(width - 1, Math.floor((left + x + 0.5) / scale)) * height;
    for (let y = 0; y < crop.height; y++) {
      const row = Math.min(height - 1, Math.floor((top + y + 0.5) / scale));
      inside[y * crop.width + x] = pixels[column + row];
    }
  }
  return { ...crop, inside };
}

/** Mix a colour [r, g, b] into the RGBA pixels of a canvas where a mask is; its border takes the colour in full. */
export function blendMask(rgba, canvasWidth, mask, color, tint = 0.45) {
  const { left, top, width, height, inside } = mask;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!inside[at]) continue;
      const border =
        x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
        !inside[at - 1] || !inside[at + 1] || !inside[at - width] || !inside[at + width];
      const weight = border ? 1 : tint;
      const target = 4 * ((top + y) * canvasWidth + left + x);
      for (let channel = 0; channel < 3; channel++) {
        rgba[target + channel] = rgba[target + channel] * (1 - weight) + color[channel] * weight;
      }
    }
  }
}

/** Colour of a class as [r, g, b]; instances of it differ a little, as in the pictures that the server draws. */
export function classColor(classIndex, instance = 0) {
  const turn = 0.03 * Math.floor((instance + 1) / 2) * (instance % 2 === 0 ? 1 : -1);
  const hue = (((classIndex * 0.618033988749895 + turn) % 1) + 1) % 1;
  return hslToRgb(hue, 0.85, [0.52, 0.62, 0.44][instance % 3]);
}

function hslToRgb(hue, saturation, lightness) {
  const chroma = saturation * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((offset) => {
    const k = (offset + hue * 12) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** Black or white, whichever reads better on a colour. */
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}
