// A network in which each service has ways of its own to the servers: a link for each pair.
//
// A service learns addresses from Sentinels and from the nodes of a Cluster. In their answers the port of a server is
// replaced by that of the service's own link to it. All ports have five digits, so no length in the protocol changes.
import { Link } from './link.js';

/** Where a port stands in an answer: as text of its own, as an integer, behind a host, and in INFO. */
const places = (port) => [`\r\n$5\r\n${port}\r\n`, `\r\n:${port}\r\n`, `127.0.0.1:${port}`, `port=${port}`, `port:${port}`];

export class Network {
  /** service → port → link */
  #links = new Map();

  /** @param {{ servers: import('./shapes/server.js').Server[] }} shape */
  constructor(shape) {
    this.shape = shape;
  }

  /** The ways of a service to all servers of today; more are added by `admit`. Those of the process before it end. */
  async join(service) {
    for (const link of this.links({ service })) link.close();
    const links = new Map();
    this.#links.set(service, links);
    for (const server of this.shape.servers) await this.#add(service, server);
    return links;
  }

  async #add(service, server) {
    const links = this.#links.get(service);
    const link = await Link.to(server.port);
    links.set(server.port, link);
    link.proxy.alter = (direction, bytes) => (direction === 'down' ? this.#translate(links, bytes) : bytes);
  }

  /** A server that is new: everybody gets a way to it. */
  async admit(server) {
    for (const service of this.#links.keys()) await this.#add(service, server);
  }

  #translate(links, bytes) {
    if (!bytes.includes('127.0.0.1')) return bytes;
    let text = bytes.toString('latin1');
    for (const [port, link] of links) {
      if (!text.includes(`${port}`)) continue;
      for (const place of places(port)) text = text.replaceAll(place, place.replace(`${port}`, `${link.port}`));
    }
    return Buffer.from(text, 'latin1');
  }

  /** The way of a service to a server. */
  link(service, server) {
    return this.#links.get(service).get(server.port);
  }

  /** All ways of a service, or to a server, or all there are. */
  links({ service, server } = {}) {
    return [...this.#links].filter(([name]) => !service || name === service)
      .flatMap(([, links]) => [...links]).filter(([port]) => !server || port === server.port).map(([, link]) => link);
  }

  /** The port by which a service, or anybody without ways of its own, reaches a server. */
  portOf(service, server) {
    return this.#links.get(service)?.get(server.port).port ?? server.port;
  }

  close() {
    for (const link of this.links()) link.close();
  }
}
