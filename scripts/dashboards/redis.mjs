// Redis as the services see it. Redis' own exporter, if there is one, shows the other side.
import { N, S, above, below, dashboard, lines, now, quantile, rate, stat, states } from './parts.mjs';

export default dashboard({
  name: 'redis',
  title: 'Redis',
  description: 'Memory, reach, latency and cost of Redis as Carillon\'s services see them.',
  sections: [
    ['Memory and reach', [
      stat('Memory', 'Used share of maxmemory on the fullest server; 0 without a limit.', `max(${now('carillon_redis_memory_ratio')})`, { unit: 'percentunit', width: 6, thresholds: above(0.6, 0.7) }),
      stat('Reached by', 'Share of the processes that can use Redis.', `avg(${now('carillon_ready_check', 'check="redis"')})`, { unit: 'percentunit', width: 6, thresholds: below(1) }),
      stat('A call, 99 %', 'From a call to its answer.', quantile(0.99, 'carillon_redis_call_seconds'), { unit: 's', width: 6, thresholds: above(0.02, 0.2) }),
      stat('Round trips per message', 'All services together, for each message recorded. It falls with load, as more goes into one batch.', `sum(${rate('carillon_redis_round_trips_total')}) / (sum(${rate('carillon_dispatcher_messages_total')}) > 0)`, { unit: 'none', decimals: 2, width: 6 }),
      lines('Memory', 'Used share of maxmemory. At 80 % messages are refused, at 90 % joins of new rooms, at 95 % new sessions, so that dispatchers always have room to drain.', [[`max by (namespace) (${now('carillon_redis_memory_ratio')})`, '{{namespace}}']], { unit: 'percentunit', max: 1, thresholds: above(0.7, 0.8) }),
      lines('Entries in queues', 'What waits takes memory until it is handled.', [[`carillon:queue_entries:max{${N}}`, '{{namespace}}']]),
      states('Usable', 'Whether each process reaches Redis and finds it as it should be. /readyz says what is wrong.', [[now('carillon_ready_check', 'check="redis"'), '{{pod}}']], { width: 8 }),
    ]],
    ['Latency and cost', [
      lines('A call takes', 'From a call to its answer, all services. Reads that wait for something to come are not in it.', [
        [quantile(0.5, 'carillon_redis_call_seconds'), 'half'], [quantile(0.99, 'carillon_redis_call_seconds'), '99 %'], [quantile(0.999, 'carillon_redis_call_seconds'), '99.9 %'],
      ], { unit: 's', thresholds: above(0.02, 0.2) }),
      lines('By pod, 99 %', 'One pod slower than the others: look at its node and its processor share.', [[quantile(0.99, 'carillon_redis_call_seconds', 'pod'), '{{pod}}']], { unit: 's' }),
      lines('Round trips', 'Calls and waiting reads per second, by pod.', [[`sum by (pod, kind) (${rate('carillon_redis_round_trips_total')})`, '{{pod}} {{kind}}']], { unit: 'cps' }),
      lines('Connections tried', 'By outcome. Connections are kept; a steady rate means that they break.', [[`sum by (outcome) (${rate('carillon_redis_connections_total')})`, '{{outcome}}']], { unit: 'cps' }),
    ]],
    ['Failures', [
      lines('Failed calls', 'By service and kind. `unavailable`: no answer, nothing was written; `not_writable`: the server takes no writes; `unknown`: the answer was lost; `unreplicated`: too few replicas acknowledged it in time; `life_changed`: the server failed over or restarted.', [
        [`sum by (kind) (${rate('carillon_gateway_broker_errors_total')})`, 'gateway {{kind}}'], [`sum by (kind) (${rate('carillon_dispatcher_broker_errors_total')})`, 'dispatcher {{kind}}'],
      ], { unit: 'cps' }),
      lines('Failovers', 'Changes of a server\'s life, as gateways and dispatchers (once for each partition) see them.', [
        [`sum(${rate('carillon_gateway_failovers_total')})`, 'gateways'], [`sum(${rate('carillon_dispatcher_failovers_total')})`, 'dispatchers'], [`sum(${rate('carillon_ingest_failovers_total')})`, 'ingests'], [`sum(${rate('carillon_gateway_resets_total')})`, 'positions taken back'],
      ], { unit: 'cps' }),
      lines('Looks at Redis that fail', 'Sentinels and servers that were asked who is primary, or who they are, and did not answer, by pod.', [[`sum by (pod) (${rate('carillon_redis_looks_total', 'outcome="failed"')})`, '{{pod}}']], { unit: 'cps' }),
      lines('Replication IDs', 'Changes of a running server\'s replication ID. A first replica that attaches is benign; a promotion is a failover.', [[`sum by (kind) (${rate('carillon_redis_replication_id_changes_total')})`, '{{kind}}']], { unit: 'cps' }),
      lines('Accepted and lost', 'Messages that a failover or a restart of Redis took back; their rooms are told. And partitions of which nobody knows what they lost.', [
        [`sum(increase(carillon_redis_lost_messages_total{${S}}[$__rate_interval]))`, 'messages'], [`sum(increase(carillon_redis_unknown_losses_total{${S}}[$__rate_interval]))`, 'partitions'],
        [`sum by (scope) (increase(carillon_dispatcher_gaps_total{${S}}[$__rate_interval]))`, 'markers: {{scope}}'], [`sum(increase(carillon_redis_superseded_appends_total{${S}}[$__rate_interval]))`, 'answers not trusted'],
      ], { unit: 'none' }),
      lines('Unknown outcomes', 'Writes whose answer was lost, as producers and clients were told.', [
        [`sum(${rate('carillon_ingest_requests_total', 'outcome="unknown"')})`, 'producers'], [`sum(${rate('carillon_gateway_publishes_total', 'outcome="outcome_unknown"')})`, 'clients'], [`sum(${rate('carillon_dispatcher_unknown_outcomes_total')})`, 'dispatchers'],
      ], { unit: 'cps' }),
      lines('Refused for want of room', 'Requests that ingest refused, by reason; Redis\' memory is one of them.', [[`sum by (reason) (${rate('carillon_ingest_rejections_total')})`, '{{reason}}']], { unit: 'cps' }),
      lines('Refused by memory', 'What would have made Redis grow and was refused, or made to wait, while Redis was nearly full.', [[`sum by (growth) (${rate('carillon_redis_memory_refusals_total')})`, '{{growth}}']], { unit: 'cps' }),
      lines('Memory gate', 'What is refused at the moment, in how many processes.', [[`sum by (growth) (${now('carillon_redis_memory_closed')})`, '{{growth}}']], { unit: 'none' }),
      lines('Restarts of services', 'A service that restarts while Redis is away has another problem: liveness never depends on Redis.', [[`changes(process_start_time_seconds{${S}}[$__rate_interval])`, '{{pod}}']], { unit: 'none' }),
    ]],
  ],
});
