// Is everything well? If not, which dashboard shows why?
import { N, S, above, below, dashboard, lines, now, quantile, rate, stat, states, table } from './parts.mjs';

export default dashboard({
  name: 'overview',
  title: 'Overview',
  description: 'Whether messages reach clients in time, and what is wrong if they do not.',
  sections: [
    ['Now', [
      stat('Alerts', 'Alerts of Carillon that fire. Their runbooks say what to do.', `sum(ALERTS{alertname=~"Carillon.*",alertstate="firing",${N}}) or vector(0)`, { thresholds: above(undefined, 1) }),
      stat('Pods ready', 'Share of the processes that are ready; those that drain are not.', `sum(${now('carillon_ready')}) / count(${now('carillon_ready')})`, { unit: 'percentunit', thresholds: below(1) }),
      stat('Sessions', 'Clients that are connected.', `sum(${now('carillon_gateway_sessions')})`),
      stat('Accepted', 'Messages per second that ingest accepted.', `sum(${rate('carillon_ingest_messages_total')})`, { unit: 'cps' }),
      stat('Delivered', 'Messages per second that were queued for sessions, each session counted.', `sum(${rate('carillon_gateway_deliveries_total')})`, { unit: 'cps' }),
      stat('Late', 'Share of what was delivered live that took longer than 1 s. The objective allows 0.1 %.', `max(carillon:delivery_late:ratio_rate5m{${N}})`, { unit: 'percentunit', decimals: 3, thresholds: above(0.001, 0.0144) }),
      stat('Waiting', 'Messages in the queues: accepted and not yet handed to gateways.', `sum(carillon:queue_entries:max{${N}})`, { thresholds: above(1_000, 50_000) }),
      stat('Oldest waiting', 'How long the oldest message in a queue has waited.', `max(carillon:queue_age_seconds:max{${N}})`, { unit: 's', thresholds: above(5, 30) }),
      stat('Partitions unowned', 'Partitions that no dispatcher owns: what is sent to their rooms waits.', `sum(carillon:partitions_unowned:sum{${N}})`, { thresholds: above(undefined, 1) }),
      stat('Redis memory', 'Used share of maxmemory on the fullest server; 0 where it has no limit. From 80 % on, messages are refused.', `max(${now('carillon_redis_memory_ratio')})`, { unit: 'percentunit', thresholds: above(0.6, 0.7) }),
      stat('Gateways full', 'Sessions as a share of what the gateways may hold.', `sum(${now('carillon_gateway_sessions')}) / sum(${now('carillon_gateway_sessions_limit')})`, { unit: 'percentunit', thresholds: above(0.7, 0.85) }),
      stat('Draining', 'Processes on their way out.', `sum(${now('carillon_draining')})`),
    ]],
    ['Delivery', [
      lines('Acceptance to hand-over', 'From a message\'s acceptance at ingest to its hand-over to a client\'s connection. The dashed line is the objective\'s second.', [
        [quantile(0.5, 'carillon_gateway_delivery_seconds'), 'half'], [quantile(0.99, 'carillon_gateway_delivery_seconds'), '99 %'], [quantile(0.999, 'carillon_gateway_delivery_seconds'), '99.9 %'],
      ], { unit: 's', thresholds: above(undefined, 1) }),
      lines('Late, by window', 'Share that took longer than 1 s, over windows. Pages when 1 h and 5 m are above 1.44 %.', [
        [`carillon:delivery_late:ratio_rate5m{${N}}`, '{{namespace}} 5 m'], [`carillon:delivery_late:ratio_rate1h{${N}}`, '{{namespace}} 1 h'], [`carillon:delivery_late:ratio_rate6h{${N}}`, '{{namespace}} 6 h'],
      ], { unit: 'percentunit', thresholds: above(0.001, 0.0144) }),
      lines('Messages', 'Accepted by ingest, recorded by dispatchers, delivered to sessions. The last is larger by the number of listeners.', [
        [`sum(${rate('carillon_ingest_messages_total')})`, 'accepted'], [`sum(${rate('carillon_dispatcher_messages_total')})`, 'recorded'], [`sum(${rate('carillon_gateway_deliveries_total')})`, 'delivered'],
      ], { unit: 'cps' }),
      lines('Sessions', 'Clients by gateway.', [[now('carillon_gateway_sessions'), '{{pod}}']], { stack: true }),
      lines('Sessions begin and end', 'Per second. A deploy shows as an even hill, a storm as a spike.', [
        [`sum(${rate('carillon_gateway_sessions_opened_total')})`, 'begin'], [`sum by (reason) (${rate('carillon_gateway_sessions_closed_total')})`, 'end: {{reason}}'],
      ], { unit: 'cps' }),
      lines('Queues', 'Entries that wait, and for how long the oldest has.', [
        [`carillon:queue_entries:max{${N}}`, '{{namespace}} entries'], [`carillon:queue_age_seconds:max{${N}}`, '{{namespace}} seconds'],
      ]),
    ]],
    ['Health', [
      states('Ready', 'Each process\' readiness. /readyz of a pod says which check fails and why.', [[now('carillon_ready'), '{{pod}}']], { good: 'ready', bad: 'not ready' }),
      states('Checks', 'Checks of readiness that fail somewhere.', [[`min by (check) (${now('carillon_ready_check')})`, '{{check}}']], { good: 'passes everywhere', bad: 'fails somewhere' }),
      table('Versions', 'What runs, and on how many pods.', `count by (version, revision) (${now('carillon_build_info')})`, { version: 'Version', revision: 'Revision', Value: 'Pods' }),
      table('Policy', 'Revisions in force. More than one for longer than a moment: some pods have not taken the newest.', `count by (revision) (${now('carillon_policy_info')})`, { revision: 'Revision', Value: 'Pods' }),
      lines('Trouble', 'What should be zero: refusals for want of room, lost answers, holes, dead letters, refused policies.', [
        [`sum(${rate('carillon_ingest_requests_total', 'outcome="refused"')})`, 'refused requests'],
        [`sum(${rate('carillon_ingest_requests_total', 'outcome="unknown"')})`, 'unknown outcomes'],
        [`sum(${rate('carillon_gateway_holes_found_total')})`, 'holes found'],
        [`sum(${rate('carillon_gateway_gaps_told_total')})`, 'gaps told to clients'],
        [`sum(${rate('carillon_dispatcher_dead_letters_total')})`, 'dead letters'],
        [`sum(${rate('carillon_policy_rejected_total')})`, 'policies refused'],
      ], { unit: 'cps' }),
      lines('Processors', 'Cores in use by pod.', [[`rate(process_cpu_seconds_total{${S}}[$__rate_interval])`, '{{pod}}']], { unit: 'none' }),
      lines('Memory', 'Resident memory by pod.', [[`process_resident_memory_bytes{${S}}`, '{{pod}}']], { unit: 'bytes' }),
    ]],
  ],
});
