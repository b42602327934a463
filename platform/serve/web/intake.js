// Images from the reader's hands: chosen, taken with the camera, dropped anywhere, pasted, or named by their address.
import { get } from "./elements.js";
import { megabytes } from "./names.js";

/** take([{name, read}]) is called with images; none(text) where there was none. addresses(): whether they are allowed. */
export function listenForImages({ take, none, addresses, mostBytes }) {
  const takeFiles = (files, otherwise) => {
    if (files.length) take([...files].map((file) => ({ name: file.name, read: async () => file })));
    else if (otherwise) none(otherwise);
  };
  const takeAddress = (text) => {
    const url = addresses() ? readAddress(text) : null;
    if (url) take([{ name: nameOf(url), read: (signal) => fetchImage(url, mostBytes(), signal) }]);
    return url !== null;
  };
  for (const id of ["file", "camera"]) {
    get(id).addEventListener("change", ({ target }) => {
      takeFiles(target.files);
      target.value = ""; // the same file may be chosen again
    });
  }
  get("another").addEventListener("click", () => get("file").click());
  get("another-camera").addEventListener("click", () => get("camera").click());
  listenForDrops(takeFiles, takeAddress);
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, dialog")) return;
    const { files } = event.clipboardData;
    if (files.length || !takeAddress(event.clipboardData.getData("text/plain"))) takeFiles(files, "What was pasted is no image.");
  });
  for (const form of document.querySelectorAll("form.address")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const field = form.elements[0];
      if (takeAddress(field.value)) field.value = "";
      else none("This is no address of an image: one begins with http or https.");
    });
  }
}

function listenForDrops(takeFiles, takeAddress) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const { files } = event.dataTransfer;
    if (files.length || !takeAddress(event.dataTransfer.getData("text/uri-list"))) takeFiles(files, "What was dropped is no file.");
  });
}

/** The URL that a text is, or null. */
function readAddress(text) {
  try {
    const url = new URL(text.trim());
    return ["http:", "https:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

function nameOf(url) {
  const last = url.pathname.split("/").pop();
  try {
    return decodeURIComponent(last) || url.host;
  } catch {
    return last;
  }
}

/** What an address gives to this browser, which asks without cookies and key; no more than so many bytes of it. */
async function fetchImage(url, mostBytes, signal) {
  let response;
  try {
    response = await fetch(url, { signal, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`${url.host} gives this page nothing: it is not there, or does not allow other pages to read it (CORS)`);
  }
  if (!response.ok) throw new Error(`${url.host} answered ${response.status}`);
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts, { type: response.headers.get("Content-Type") ?? "" });
    parts.push(value);
    length += value.length;
    if (length > mostBytes) {
      await reader.cancel();
      throw new Error(`it is larger than the ${megabytes(mostBytes)} that this server takes`);
    }
  }
}
