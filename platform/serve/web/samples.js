// The images on offer, as buttons; a press hands on the image as a file, as if it had been dropped.
import { element } from "./elements.js";
import { shownName } from "./names.js";

/**
 * Fill a list with the server's samples, but for those that cannot be shown; `choose` is called with a name and a
 * function that reads the File. Gives how many there are.
 */
export async function listSamples(list, server, choose) {
  const { samples } = await server.json("v1/samples");
  const rows = samples.map(({ name, title: given, width, height }) => {
    const title = shownName(given);
    const path = `v1/samples/${encodeURIComponent(name)}`;
    const image = element("img", { alt: "", width, height, draggable: false });
    const button = element("button", { type: "button", title }, image);
    button.setAttribute("aria-label", `Sample: ${title}`);
    button.addEventListener("click", () => choose(name, () => readFile(server, path, name)));
    return { row: element("li", {}, button), load: () => loadPreview(image, server, path) };
  });
  list.replaceChildren(...rows.map(({ row }) => row));
  await Promise.all(rows.map(({ row, load }) => load().catch(() => row.remove())));
  return list.childElementCount;
}

async function readFile(server, path, name) {
  const blob = await server.blob(path);
  return new File([blob], name, { type: blob.type });
}

// Not by its address: an <img> sends no key.
async function loadPreview(image, server, path) {
  image.src = URL.createObjectURL(await server.blob(`${path}/preview`));
  await image.decode();
  URL.revokeObjectURL(image.src);
}
