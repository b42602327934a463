// Requests to a server, with the key where it asks for one; the key is kept in memory alone, and for that server.

/**
 * A request that was answered with an error, or not at all: `again` says whether it may go better next time,
 * retrySeconds when, and requestId what its line in the server's log has.
 */
export class ServerError extends Error {
  constructor(message, { again = false, retrySeconds = 0, requestId = "" } = {}) {
    super(message);
    Object.assign(this, { again, retrySeconds, requestId });
  }
}

export class Server {
  #address;
  #key = null;
  #askKey;
  #asking = null;

  /**
   * address is what paths are below. askKey(refused, host) gives the promise of a key, or of null where the reader has
   * none; refused: the last was wrong.
   */
  constructor(address, askKey) {
    this.#address = address;
    this.#askKey = askKey;
  }

  get hasKey() {
    return this.#key !== null;
  }

  url(path) {
    return new URL(path, this.#address);
  }

  /** The JSON answer of a path; ServerError with one line where there is none. */
  async json(path, options) {
    const response = await this.#send(path, options);
    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      throw new ServerError(`the server answered ${response.status} and no JSON: ${text.slice(0, 200)}`);
    }
  }

  /** What the server finds in an encoded image: its JSON answer; options are of the query. */
  predict(file, signal) {
    return this.json("v1/predict", post(file, signal));
  }

  /** An encoded image as PNG, as the server reads it, with objects drawn by options of the query, or none. */
  draw(file, options, signal) {
    return this.blob(`v1/predict?${new URLSearchParams({ format: "png", ...options })}`, post(file, signal));
  }

  /** The body of a path as a Blob. */
  async blob(path, options) {
    return await (await this.#send(path, options)).blob();
  }

  async #send(path, options = {}) {
    for (;;) {
      const [key, id] = [this.#key, makeId()];
      const headers = { ...options.headers, "X-Request-ID": id };
      if (key !== null) headers.Authorization = `Bearer ${key}`;
      const response = await this.#fetch(this.url(path), { ...options, headers }, id);
      if (response.ok) return response;
      if (response.status !== 401) throw await readError(response, id);
      // Several requests may be refused at a time; the reader is asked once.
      if (this.#key === key) {
        this.#asking ??= this.#askKey(key !== null, this.#address.host).finally(() => (this.#asking = null));
        const given = await this.#asking;
        if (given === null) throw new ServerError("this server asks for a key", { again: true });
        this.#key = given;
      }
      options.signal?.throwIfAborted();
    }
  }

  async #fetch(url, options, requestId) {
    try {
      return await fetch(url, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("the server cannot be reached; is it still running?", { again: true, requestId });
    }
  }
}

function post(body, signal) {
  return { method: "POST", body, signal, headers: { "Content-Type": "application/octet-stream" } };
}

/** Sixteen letters that are unlike those of other requests; crypto.randomUUID is only there with TLS. */
function makeId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function readError(response, id) {
  const text = await response.text();
  const told = {
    again: [408, 429, 502, 503, 504].includes(response.status),
    retrySeconds: [429, 503].includes(response.status) ? Number(response.headers.get("Retry-After")) || 0 : 0,
    requestId: response.headers.get("X-Request-ID") ?? id,
  };
  try {
    const { error, detail } = JSON.parse(text);
    if (error ?? detail) return new ServerError(String(error ?? detail), told);
  } catch {
    // no JSON: what a proxy says
  }
  return new ServerError(`the server answered ${response.status}: ${text.slice(0, 200)}`, told);
}
