// What Redis holds at the end: asked of the servers themselves, not of Carillon.

const IDS = "local ids = {} for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do ids[#ids + 1] = entry[1] end return ids";

async function keys(servers, pattern) {
  const found = await Promise.all(servers.map(async (server) => (await server.cli('--scan', '--pattern', pattern)).split('\n').filter(Boolean).map((key) => ({ server, key }))));
  return found.flat();
}

/** Offsets of the messages in a room's history. */
export async function held(shape, room) {
  const [found] = await keys(await shape.primaries(), `carillon:h:*:${room}`);
  if (!found) return [];
  return (await found.server.cli('EVAL', IDS, 1, found.key)).split('\n').filter(Boolean);
}

/** Messages that wait in all queues. */
export async function queued(shape) {
  const found = await keys(await shape.primaries(), 'carillon:q:*');
  const lengths = await Promise.all(found.map(({ server, key }) => server.cli('XLEN', key)));
  return lengths.reduce((sum, length) => sum + Number(length), 0);
}

/** The number of keys on all primaries. */
export async function size(shape) {
  const sizes = await Promise.all((await shape.primaries()).map((server) => server.cli('DBSIZE')));
  return sizes.reduce((sum, count) => sum + Number(count), 0);
}
