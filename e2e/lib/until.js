// Waits on conditions. A test never waits for a time to pass, only for something to become so.

/**
 * Asks until the answer is truthy, and gives it.
 * @template T
 * @param {string} what what is waited for, for the failure
 * @param {() => T | Promise<T>} condition
 * @param {number} [milliseconds] the longest it may take
 * @returns {Promise<T>}
 */
export async function until(what, condition, milliseconds = 30_000) {
  const deadline = Date.now() + milliseconds;
  let last;
  for (;;) {
    try {
      const answer = await condition();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`not so after ${milliseconds} ms: ${what}${last ? ` (${last.message}${last.cause ? `: ${last.cause}` : ''})` : ''}`);
    }
    await new Promise((resolve) => { setImmediate(() => { setTimeout(resolve, 20); }); });
  }
}
