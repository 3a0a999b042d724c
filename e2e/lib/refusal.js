// How a stock client is refused.
import assert from 'node:assert/strict';

/**
 * Waits until the server refuses a client, and gives the error. A connection that could not be made is no refusal: the
 * client tries again by itself, and so it is waited on.
 * @param {import('socket.io-client').Socket} socket
 */
export async function refused(socket) {
  const error = await new Promise((resolve, reject) => {
    socket.on('connect_error', (told) => {
      if (told.type === 'TransportError') console.error(`a client could not connect and tries again: ${told.message}, ${told.description}`);
      else resolve(told);
    });
    socket.on('connect', () => reject(new Error('it was let in')));
  });
  assert.equal(socket.active, false, `a stock client does not try again: ${error.message}`);
  return error;
}
