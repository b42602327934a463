// Colours of classes and of objects, and what can be read on them; no document, so that it runs outside a browser too.

const GOLDEN_RATIO = 0.618033988749895; // steps of this around the colour circle never come close to one another soon

/** Colour of a class as [r, g, b]: that of its first object in the images that the server draws. */
export function classColor(classIndex) {
  return hslToRgb((classIndex * GOLDEN_RATIO) % 1, 0.85, 0.52);
}

/** Colour of the nth object as [r, g, b], far from those of its neighbours in the list. */
export function objectColor(nth) {
  return hslToRgb((0.58 + nth * GOLDEN_RATIO) % 1, 0.85, [0.55, 0.65, 0.45][nth % 3]);
}

function hslToRgb(hue, saturation, lightness) {
  const chroma = saturation * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((offset) => {
    const k = (offset + hue * 12) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** Black or white, whichever reads better on a colour: by the contrast of WCAG 2, which is then at least 4.5. */
export function inkOn(color) {
  const [red, green, blue] = color.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
