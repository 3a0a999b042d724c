// A Cluster of three primaries, each with a replica.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { freePort } from '../../lib/ports.js';
import { CLI } from '../../lib/redis.js';
import { until } from '../../lib/until.js';
import { Server } from './server.js';

const run = promisify(execFile);
/** Milliseconds without an answer after which nodes take another to be down. */
export const NODE_TIMEOUT = 2_000;
const LINES = ['cluster-enabled yes', `cluster-node-timeout ${NODE_TIMEOUT}`, 'cluster-config-file nodes.conf', 'repl-timeout 5'];

export class Cluster {
  mode = 'cluster';

  static async start({ lines = [] } = {}) {
    const shape = new Cluster();
    shape.lines = [...LINES, ...lines];
    shape.servers = await Promise.all(Array.from({ length: 6 }, () => shape.node()));
    await run(CLI, ['--cluster', 'create', ...shape.servers.map(({ address }) => address), '--cluster-replicas', '1', '--cluster-yes'], { timeout: 60_000 });
    await shape.agreed();
    return shape;
  }

  /** A node. Its second port would be one that the kernel gives out by itself, if nothing were said. */
  async node() {
    return Server.start({ name: 'node', lines: [...this.lines, `cluster-port ${await freePort()}`] });
  }

  get seeds() {
    return this.servers;
  }

  get awake() {
    return this.servers.filter((server) => !server.stopped && server.child.process.exitCode === null && server.child.process.signalCode === null);
  }

  get replicas() {
    return this.servers.slice(3);
  }

  /** What a node takes the Cluster to be: `{ id, port, flags, primary, slots }` of each. */
  async nodes(of = this.awake[0]) {
    return (await of.cli('CLUSTER', 'NODES')).split('\n').map((line) => {
      const [id, address, flags, primary, , , , link, ...slots] = line.trim().split(' ');
      return { id, port: Number(/:(\d+)@/.exec(address)[1]), flags: flags.split(','), primary, link, slots };
    });
  }

  at(port) {
    return this.servers.find((server) => server.port === port);
  }

  /** The servers that hold slots, without those that are taken to be down. */
  async primaries() {
    const nodes = await this.nodes();
    return nodes.filter(({ flags, slots }) => flags.includes('master') && !flags.includes('fail') && slots.length > 0).map(({ port }) => this.at(port));
  }

  /** The server that holds a slot. */
  async holder(slot) {
    const holds = ({ slots }) => slots.some((range) => {
      const [from, to = from] = range.split('-').map(Number);
      return from <= slot && slot <= to;
    });
    const found = (await this.nodes()).find((node) => node.flags.includes('master') && !node.flags.includes('fail') && holds(node));
    return this.at(found?.port);
  }

  async slotOf(key) {
    return Number(await this.awake[0].cli('CLUSTER', 'KEYSLOT', key));
  }

  /** Waits until every node that can answer knows a server for every slot. */
  async agreed() {
    await until('the Cluster is whole', async () => {
      for (const server of this.awake) {
        const state = await server.cli('CLUSTER', 'INFO');
        if (!state.includes('cluster_state:ok') || !state.includes('cluster_slots_ok:16384')) return false;
        const { role, master_link_status: link } = await server.info('replication');
        if (role === 'slave' && link !== 'up') return false;
        const nodes = (await this.nodes(server)).filter(({ flags }) => !flags.includes('fail') && !flags.includes('noaddr'));
        const primaries = nodes.filter(({ slots }) => slots.length > 0);
        if (nodes.some(({ flags }) => flags.includes('handshake')) || !primaries.every(({ id }) => nodes.some((node) => node.primary === id))) return false;
      }
      return true;
    }, 60_000);
  }

  /** The replica that follows a primary. */
  async replicaOf(primary) {
    const nodes = await this.nodes();
    const { id } = nodes.find(({ port }) => port === primary.port);
    return this.at(nodes.find((node) => node.primary === id && !node.flags.includes('fail'))?.port);
  }

  /** Waits until another server holds what `old` held. */
  async promoted(old, slot) {
    return until('another server holds its slots', async () => {
      const holder = await this.holder(slot);
      return holder && holder !== old && (await holder.isPrimary()) && holder;
    }, 60_000);
  }

  /** A failover that is asked for: a replica takes its primary's place. */
  async failover(replica) {
    // It gives up where the others have not heard of it yet, or are busy.
    for (let tried = 0, took = false; !took; tried += 1) {
      await replica.cli('CLUSTER', 'FAILOVER').catch(() => {});
      took = await until('it took its place', () => replica.isPrimary(), 6_000).catch((error) => {
        if (tried === 5) throw error;
      });
    }
  }

  /** Moves a slot with its keys from one primary to another, as resharding does: key by key, under load. */
  async move(slot, from, to) {
    const nodes = await this.nodes();
    const idOf = (server) => nodes.find(({ port }) => port === server.port).id;
    await to.cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', idOf(from));
    await from.cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', idOf(to));
    for (;;) {
      const keys = (await from.cli('CLUSTER', 'GETKEYSINSLOT', slot, 10)).split('\n').filter(Boolean);
      if (keys.length === 0) break;
      await from.cli('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys);
    }
    // The new holder first, then the old one, then all others: no moment in which nobody holds it.
    for (const server of [to, from, ...(await this.primaries()).filter((each) => each !== to && each !== from)]) {
      await server.cli('CLUSTER', 'SETSLOT', slot, 'NODE', idOf(to));
    }
  }

  /** A server at a new address takes the place of a primary, which then is gone. `joins` is told of it first. */
  async replace(primary, joins = () => {}) {
    const node = await this.node();
    await joins(node);
    const { id } = (await this.nodes()).find(({ port }) => port === primary.port);
    await run(CLI, ['--cluster', 'add-node', node.address, primary.address, '--cluster-slave', '--cluster-master-id', id], { timeout: 30_000 });
    this.servers.push(node);
    await node.follows();
    await this.agreed();
    await this.failover(node);
    await until('the old one follows', async () => (await primary.isPrimary()) === false);
    this.servers = this.servers.filter((server) => server !== primary);
    await primary.remove();
    await Promise.all(this.awake.map((server) => server.cli('CLUSTER', 'FORGET', id).catch(() => {})));
    return node;
  }

  /** A server at a new address takes the place of a replica, which then is gone. */
  async replaceReplica(replica) {
    const nodes = await this.nodes();
    const { id, primary } = nodes.find(({ port }) => port === replica.port);
    const node = await this.node();
    await run(CLI, ['--cluster', 'add-node', node.address, this.at(nodes.find((each) => each.id === primary).port).address, '--cluster-slave', '--cluster-master-id', primary], { timeout: 30_000 });
    this.servers.push(node);
    await node.follows();
    this.servers = this.servers.filter((server) => server !== replica);
    await replica.remove();
    await Promise.all(this.awake.map((server) => server.cli('CLUSTER', 'FORGET', id).catch(() => {})));
  }

  async end() {
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}
