// What docs/redis.md promises of a planned failover: nothing is lost, and gateways notice it.
import { until } from '../../lib/until.js';

/**
 * A planned failover as a fault by which nothing may be lost: what `act` does is one, from the moment the primary takes no
 * writes.
 * @param {import('../stage.js').Stage} stage @param {string} name @param {() => Promise<unknown>} act
 */
export async function planned(stage, name, act) {
  const { fleet } = stage;
  const lost = async () => (await fleet.sum(fleet.names, 'carillon_redis_lost_messages_total')) + (await fleet.sum(fleet.names, 'carillon_redis_unknown_losses_total'));
  const failovers = () => fleet.sum('gateway', 'carillon_gateway_failovers_total');
  const before = { lost: await lost(), failovers: await failovers() };
  await stage.fault(name, act);
  await stage.flowing();
  const seen = await until('gateways have seen it', async () => (await failovers()) > before.failovers, stage.patience).catch(() => false);
  stage.expect(seen, `${name}: no gateway saw it, so nothing was tried`);
  // A process that died with a server is looked for 15 s later.
  await stage.pass(stage.long ? 20 : 2);
  const more = (await lost()) - before.lost;
  stage.expect(more === 0, `${name}: losses were counted ${more} times`);
}
