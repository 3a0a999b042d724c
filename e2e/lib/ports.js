// Free ports, below those the kernel gives out by itself.
import net from 'node:net';

const taken = new Set();

/** @returns {Promise<number>} */
export async function freePort() {
  for (;;) {
    const port = 22_000 + Math.floor(Math.random() * 9_000);
    if (taken.has(port)) continue;
    const free = await new Promise((resolve) => {
      const server = net.createServer().once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) {
      taken.add(port);
      return port;
    }
  }
}
