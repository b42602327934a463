// Requests one behind the other, a few at a time; a server that is busy is asked again when it says; no document.

const MOST_TRIES = 6;
const LONGEST_PAUSE = 60; // seconds

export class Queue {
  #most;
  #waiting = [];
  #running = 0;
  #pausedUntil = 0;
  #timer = 0;

  /** most: requests at a time. */
  constructor(most) {
    this.#most = most;
  }

  /**
   * The outcome of send() once its turn has come. Where that fails with retrySeconds, nothing is begun for so long, and
   * it comes first again, MOST_TRIES times at most; paused(seconds) is told. A signal that is aborted takes it out.
   */
  add(send, { signal, paused = () => null } = {}) {
    return new Promise((resolve, reject) => {
      const job = { send, signal, paused, resolve, reject, tries: 0 };
      signal?.addEventListener("abort", () => {
        this.#waiting = this.#waiting.filter((other) => other !== job);
        reject(signal.reason);
      });
      this.#waiting.push(job);
      this.#next();
    });
  }

  #next() {
    const pause = this.#pausedUntil - Date.now();
    if (pause > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#next(), pause);
      return;
    }
    while (this.#running < this.#most && this.#waiting.length) this.#run(this.#waiting.shift());
  }

  async #run(job) {
    this.#running++;
    try {
      job.resolve(await job.send());
    } catch (error) {
      if (error.retrySeconds && ++job.tries < MOST_TRIES && !job.signal?.aborted) this.#pause(job, error.retrySeconds);
      else job.reject(error);
    } finally {
      this.#running--;
      this.#next();
    }
  }

  #pause(job, seconds) {
    const pause = Math.min(LONGEST_PAUSE, seconds);
    this.#pausedUntil = Math.max(this.#pausedUntil, Date.now() + 1000 * pause);
    this.#waiting.unshift(job);
    job.paused(pause);
  }
}
