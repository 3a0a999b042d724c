// How a stock client is refused.
import assert from 'node:assert/strict';

/**
 * Waits until a client is refused, for good, and gives the error.
 * @param {import('socket.io-client').Socket} socket
 */
export async function refused(socket) {
  const error = await new Promise((resolve, reject) => {
    socket.on('connect_error', resolve);
    socket.on('connect', () => reject(new Error('it was let in')));
  });
  // A connection that could not be made would be no refusal: what came instead is told.
  assert.equal(socket.active, false, `a stock client does not try again: ${error.type ?? ''} ${error.message} ${error.description ?? ''}`);
  return error;
}
