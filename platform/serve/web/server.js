// Requests to the server that the page came from, with the key where it asks for one; the key is kept in memory alone.

/** A request that was answered with an error, or not at all; `again` says whether it may go better next time. */
export class ServerError extends Error {
  constructor(message, again = false) {
    super(message);
    this.again = again;
  }
}

export class Server {
  #key = null;
  #askKey;
  #asking = null;

  /** askKey(refused) gives the promise of a key, or of null where the reader has none; refused: the last was wrong. */
  constructor(askKey) {
    this.#askKey = askKey;
  }

  get hasKey() {
    return this.#key !== null;
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

  /** The body of a path as a Blob. */
  async blob(path) {
    return await (await this.#send(path)).blob();
  }

  async #send(path, options = {}) {
    for (;;) {
      const key = this.#key;
      const headers = { ...options.headers, ...(key === null ? {} : { Authorization: `Bearer ${key}` }) };
      const response = await this.#fetch(path, { ...options, headers });
      if (response.ok) return response;
      if (response.status !== 401) throw await readError(response);
      // Several requests may be refused at a time; the reader is asked once.
      if (this.#key === key) {
        this.#asking ??= this.#askKey(key !== null).finally(() => (this.#asking = null));
        const given = await this.#asking;
        if (given === null) throw new ServerError("this server asks for a key", true);
        this.#key = given;
      }
      options.signal?.throwIfAborted();
    }
  }

  async #fetch(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("the server cannot be reached; is it still running?", true);
    }
  }
}

async function readError(response) {
  const text = await response.text();
  const again = [408, 429, 502, 503, 504].includes(response.status);
  try {
    const { error, detail } = JSON.parse(text);
    if (error ?? detail) return new ServerError(String(error ?? detail), again);
  } catch {
    // no JSON: what a proxy says
  }
  return new ServerError(`the server answered ${response.status}: ${text.slice(0, 200)}`, again);
}
