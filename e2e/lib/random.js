// Chance that can be had again: a test that fails says its seed, and `E2E_SEED` brings the same choices.
import { randomInt } from 'node:crypto';

export class Random {
  /** @param {number} seed 32 bits */
  constructor(seed) {
    this.seed = seed;
    this.state = seed >>> 0;
  }

  /** A number from 0 to below 1 (mulberry32). */
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to below `end`; 0 where there is none. */
  below(end) {
    return Math.floor(this.next() * end);
  }

  /**
   * So many of the things, each as often as its share says, in any order.
   * @template {string} T
   * @param {Record<T, number>} shares they sum up to 1
   * @param {number} count
   * @returns {T[]}
   */
  deck(shares, count) {
    let upto = 0;
    const deck = Object.entries(shares).flatMap(([thing, share]) => {
      const from = Math.round(upto * count);
      upto += share;
      return Array(Math.round(upto * count) - from).fill(thing);
    });
    for (let last = deck.length - 1; last > 0; last -= 1) {
      const other = this.below(last + 1);
      [deck[last], deck[other]] = [deck[other], deck[last]];
    }
    return deck;
  }
}

/**
 * Runs a test's part with chance of its own; what fails in it names the seed.
 * @param {(random: Random) => Promise<void>} part
 */
export async function seeded(part) {
  const seed = process.env.E2E_SEED ? Number(process.env.E2E_SEED) : randomInt(2 ** 32);
  try {
    await part(new Random(seed));
  } catch (error) {
    throw new Error(`with E2E_SEED=${seed}: ${error.message}`, { cause: error });
  }
}
