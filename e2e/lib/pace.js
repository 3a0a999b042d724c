// Bytes on a slow way: each piece waits its time, and pieces never overtake each other.

/** Bytes that may wait on a slow way before the sender is held up. */
const ROOM = 64 << 10;

export class Pace {
  #waiting = [];
  #bytes = 0;
  #free = 0;
  #timer;
  #resume;

  /**
   * @param {{ lag: number, rate: number }} way milliseconds, and bytes per second; looked at for each piece
   * @param {(bytes: Buffer) => void} write what takes them at the end
   * @param {(released: (resume: () => void) => void) => void} hold holds the sender until what it gives is called
   */
  constructor(way, write, hold) {
    this.way = way;
    this.write = write;
    this.hold = hold;
  }

  send(bytes) {
    const { lag, rate } = this.way;
    if (this.#waiting.length === 0 && lag === 0 && rate === Infinity) return this.write(bytes);
    const now = performance.now();
    this.#free = Math.max(this.#free, now) + (bytes.length / rate) * 1000;
    this.#waiting.push({ bytes, due: Math.max(this.#free, now + lag) });
    this.#bytes += bytes.length;
    if (this.#bytes > ROOM && !this.#resume) this.hold((resume) => { this.#resume = resume; });
    this.#wait();
    return undefined;
  }

  #wait() {
    if (this.#timer || this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      while (this.#waiting.length > 0 && this.#waiting[0].due <= performance.now()) {
        const { bytes } = this.#waiting.shift();
        this.#bytes -= bytes.length;
        this.write(bytes);
      }
      if (this.#bytes <= ROOM && this.#resume) {
        const resume = this.#resume;
        this.#resume = undefined;
        resume();
      }
      this.#wait();
    }, Math.max(0, this.#waiting[0].due - performance.now()));
  }
}
