// How long an answer took, and where.
import { element, get } from "./elements.js";
import { milliseconds } from "./names.js";

const PARTS = { receive: "receiving", wait: "waiting for a batch", decode: "decoding", predict: "model" };

/** Tell times in seconds: round trip and drawing as measured here, the server's by the names it gives them. */
export function tellTimes({ roundTrip, drawing }, seconds) {
  const model = seconds.predict === undefined ? "" : `, model ${milliseconds(seconds.predict)}`;
  get("timing-summary").textContent = `Round trip ${milliseconds(roundTrip)}${model}`;
  const { total, ...parts } = seconds;
  const rows = Object.entries(parts).map(([key, value]) => [PARTS[key] ?? key, value]);
  if (total !== undefined) rows.push(["network and browser", Math.max(0, roundTrip - total)]);
  const all = [["Round trip", roundTrip], ...rows, ["outlines of masks, here", drawing]];
  const terms = all.map(([name, value]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: milliseconds(value) }),
  ]);
  get("times").replaceChildren(...terms.flat());
}
