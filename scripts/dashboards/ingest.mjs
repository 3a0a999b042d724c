// What producers send, and what becomes of it.
import { above, dashboard, heatmap, lines, now, processOf, quantile, rate, S, stat } from './parts.mjs';

export default dashboard({
  name: 'ingest',
  title: 'Ingest',
  description: 'Requests of producers: accepted, refused, or with an unknown outcome.',
  sections: [
    ['Requests', [
      stat('Messages', 'Accepted per second.', `sum(${rate('carillon_ingest_messages_total')})`, { unit: 'cps' }),
      stat('Accepted', 'Share of the requests that were accepted whole.', `sum(${rate('carillon_ingest_requests_total', 'outcome="accepted"')}) / (sum(${rate('carillon_ingest_requests_total')}) > 0)`, { unit: 'percentunit', thresholds: { base: 'red', at: [[0.95, 'orange'], [0.99, 'green']] } }),
      stat('Unknown', 'Requests per second whose answer from Redis was lost. Repeating them with the same key is safe.', `sum(${rate('carillon_ingest_requests_total', 'outcome="unknown"')})`, { unit: 'cps', thresholds: above(undefined, 0.001) }),
      stat('Answer, 99 %', 'From a request\'s header to its answer.', quantile(0.99, 'carillon_ingest_request_seconds'), { unit: 's', thresholds: above(0.1, 1) }),
      stat('Rooms per message', 'How many rooms a message goes to on average.', `sum(${rate('carillon_ingest_copies_total')}) / sum(${rate('carillon_ingest_messages_total')})`, { unit: 'none', decimals: 2 }),
      stat('Redis memory', 'Used share of maxmemory on the fullest server. Above `ingest.memory_share` (80 %) requests are refused with 429.', `max(${now('carillon_redis_memory_ratio')})`, { unit: 'percentunit', thresholds: above(0.6, 0.7) }),
      lines('Requests, by outcome', 'As producers were told. `refused` may be accepted later, `rejected` never will, `partial` was kept for some rooms only, `unknown` is neither.', [[`sum by (outcome) (${rate('carillon_ingest_requests_total')})`, '{{outcome}}']], { unit: 'reqps', stack: true }),
      lines('Not accepted, by reason', 'The producer guide explains each reason.', [[`sum by (reason) (${rate('carillon_ingest_rejections_total')})`, '{{reason}}']], { unit: 'reqps' }),
      lines('Messages', 'Accepted per second by pod.', [[`sum by (pod) (${rate('carillon_ingest_messages_total')})`, '{{pod}}']], { unit: 'cps', stack: true }),
      heatmap('Requests', 'From a request\'s header to its answer.', 'carillon_ingest_request_seconds'),
      lines('Answers', 'Half and 99 % of the requests were answered within this time.', [[quantile(0.5, 'carillon_ingest_request_seconds'), 'half'], [quantile(0.99, 'carillon_ingest_request_seconds'), '99 %']], { unit: 's', width: 12 }),
    ]],
    ['Load', [
      lines('Open', 'Requests being served and connections of producers.', [[`sum(${now('carillon_ingest_requests_open')})`, 'requests'], [`sum(${now('carillon_ingest_connections_open')})`, 'connections']]),
      lines('Bytes', 'Of bodies of accepted requests.', [[`sum by (pod) (${rate('carillon_ingest_body_bytes_total')})`, '{{pod}}']], { unit: 'Bps', stack: true }),
      lines('Writes', 'Appends to queues, and messages that an idempotency key had brought before.', [[`sum(${rate('carillon_ingest_appends_total')})`, 'appends'], [`sum(${rate('carillon_ingest_repeats_total')})`, 'repeats']], { unit: 'cps' }),
      lines('Room in the queues', 'Entries of the longest queue and what it may hold.', [[`max(${now('carillon_ingest_queue_longest_entries')})`, 'longest'], [`min(${now('carillon_ingest_queue_limit_entries')})`, 'at most']], { log: true }),
      lines('Processors', 'Cores in use by pod.', [[`rate(process_cpu_seconds_total{${S}}[$__rate_interval]) and on (namespace, pod, instance) carillon_ingest_requests_open`, '{{pod}}']], { unit: 'none' }),
      lines('Memory', 'Resident memory by pod.', [[processOf(`process_resident_memory_bytes{${S}}`, 'carillon_ingest_requests_open'), '{{pod}}']], { unit: 'bytes' }),
    ]],
  ],
});
