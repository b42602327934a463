// Text from elsewhere (names of classes and of files) as it may be shown, and numbers as people read them; no document.

const LONGEST_NAME = 80;

/** A name as one line of bounded length, without controls and marks that turn the direction of writing. */
export function shownName(name) {
  const line = String(name).trim().replace(/\s+/gu, " ").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  const letters = [...line.slice(0, 2 * LONGEST_NAME + 2)];
  return letters.length <= LONGEST_NAME ? line : `${letters.slice(0, LONGEST_NAME - 1).join("")}…`;
}

/** The name of a file that is saved beside one of a name: letters that some systems refuse are left out. */
export function nameBeside(name, ending) {
  const stem = shownName(name).replace(/\.[^.]*$/, "").replace(/[/\\:*?"<>|]/g, "_");
  return `${stem || "image"}-maskray.${ending}`;
}

export const percent = (score) => `${Math.round(score * 100)} %`;

export const milliseconds = (seconds) => `${Math.round(seconds * 1000)} ms`;

export function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.round(bytes / 1e3)} kB` : `${Math.round(bytes / 1e5) / 10} MB`;
}

/** A number of things in words: "1 object", "7 objects"; none is "No objects". */
export function count(number, one, several = `${one}s`) {
  return number === 1 ? `1 ${one}` : `${number || "No"} ${several}`;
}
