// This very request as others can send it, for shells and for Python; no document.

// What would end a line, be obeyed by a terminal, or turn the direction of what is pasted there.
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** A word of a POSIX shell that stands for a text; letters that are not safe to paste are "?". */
function quoteShell(text) {
  return `'${text.replace(UNSAFE, "?").replaceAll("'", "'\\''")}'`;
}

/** A literal of Python that stands for a text. */
function quotePython(text) {
  const escape = (letter) => `\\U${letter.codePointAt(0).toString(16).padStart(8, "0")}`;
  return JSON.stringify(text).replace(UNSAFE, escape);
}

/**
 * A command that sends a file as the page does, and asks for what the page shows of it.
 *
 * url: of /v1/predict; options: of its query, in their order; fileName: as the file is called; withKey: whether the server
 * asks for a key, which is taken from the environment.
 */
export function curlSnippet({ url, options, fileName, withKey }) {
  const lines = ["curl"];
  if (withKey) lines.push('-H "Authorization: Bearer $KEY"');
  lines.push("-H 'Content-Type: application/octet-stream'", `--data-binary @${quoteShell(fileName)}`);
  return [...lines, quoteShell(`${url}${query(options)}`)].join(" \\\n  ");
}

/** The same as a program that needs Python alone. */
export function pythonSnippet({ url, options, fileName, withKey }) {
  return [
    "import json",
    ...(withKey ? ["import os"] : []),
    "from pathlib import Path",
    "from urllib.request import Request, urlopen",
    "",
    `image = Path(${quotePython(fileName)}).read_bytes()`,
    'headers = {"Content-Type": "application/octet-stream"}',
    ...(withKey ? ['headers["Authorization"] = f"Bearer {os.environ[\'KEY\']}"'] : []),
    `url = ${quotePython(`${url}${query(options)}`)}`,
    "with urlopen(Request(url, image, headers)) as answer:",
    '    for found in json.load(answer)["detections"]:',
    '        print(found["category"], found["score"], found["bbox"])',
  ].join("\n");
}

function query(options) {
  const text = new URLSearchParams(options).toString();
  return text && `?${text}`;
}
