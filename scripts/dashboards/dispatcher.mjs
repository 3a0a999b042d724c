// Queues and those who work them off.
import { N, above, dashboard, heatmap, lines, now, processOf, quantile, rate, S, stat } from './parts.mjs';

export default dashboard({
  name: 'dispatcher',
  title: 'Dispatcher and queue',
  description: 'How much waits, who owns which share, and how a batch goes.',
  sections: [
    ['Queues', [
      stat('Waiting', 'Entries in all queues.', `sum(carillon:queue_entries:max{${N}})`, { thresholds: above(1_000, 50_000) }),
      stat('Oldest waiting', 'How long the head of a queue has waited, at most.', `max(carillon:queue_age_seconds:max{${N}})`, { unit: 's', thresholds: above(5, 30) }),
      stat('Fullest partition', 'Entries of the longest queue, as a share of `ingest.queue`. When it is full, messages to it are refused with 429.', `max(${now('carillon_ingest_queue_longest_entries')} / ${now('carillon_ingest_queue_limit_entries')})`, { unit: 'percentunit', thresholds: above(0.2, 0.6) }),
      stat('Unowned', 'Partitions that no dispatcher owns.', `sum(carillon:partitions_unowned:sum{${N}})`, { thresholds: above(undefined, 1) }),
      stat('Without progress', 'Partitions whose owner gets no further although the broker answers.', `sum(${now('carillon_dispatcher_partitions_without_progress')})`, { thresholds: above(undefined, 1) }),
      stat('Refused', 'Partitions whose calls Redis refuses for a reason that is not the message\'s. They wait.', `sum(${now('carillon_dispatcher_partitions_refused')})`, { thresholds: above(undefined, 1) }),
      stat('Dispatchers', 'Alive, as they see each other.', `max(${now('carillon_dispatcher_living')})`),
      lines('Entries', 'In all queues as ingest sees them, and in each dispatcher\'s partitions.', [[`max(${now('carillon_ingest_queue_entries')})`, 'all'], [now('carillon_dispatcher_queue_entries'), '{{pod}}']]),
      lines('Age of the head', 'How long the oldest entry has waited. In the ten minutes after a failover it reads 0: look at the entries then.', [[`max(${now('carillon_ingest_queue_age_seconds')})`, 'all'], [now('carillon_dispatcher_queue_age_seconds'), '{{pod}}']], { unit: 's', thresholds: above(5, 30) }),
      lines('Partitions owned', 'By dispatcher. The sum is the number of partitions.', [[now('carillon_dispatcher_owned', 'kind="partition"'), '{{pod}}'], [`sum(${now('carillon_dispatcher_owned', 'kind="list"')})`, 'lists']], { stack: true }),
    ]],
    ['Batches', [
      lines('Messages', 'Recorded per second, by dispatcher, repeats included.', [[`sum by (pod) (${rate('carillon_dispatcher_messages_total')})`, '{{pod}}']], { unit: 'cps', stack: true }),
      lines('Messages per batch', 'Few when there is little to do, up to `dispatcher.batch` when there is much.', [[`sum(${rate('carillon_dispatcher_messages_total')}) / sum(${rate('carillon_dispatcher_batches_total')})`, 'messages per batch']], { unit: 'none' }),
      lines('A batch takes', 'From a batch in hand to its acknowledgement: record, channels, trim.', [[quantile(0.5, 'carillon_dispatcher_batch_seconds'), 'half'], [quantile(0.99, 'carillon_dispatcher_batch_seconds'), '99 %']], { unit: 's', thresholds: above(0.1, 1) }),
      heatmap('Batches', 'How long batches take.', 'carillon_dispatcher_batch_seconds'),
      lines('Parked channels', 'Channels that do not answer, for each partition that goes on without them, and messages to sessions that were lost with them.', [[`sum by (pod) (${now('carillon_dispatcher_channels_parked')})`, '{{pod}}'], [`sum(${rate('carillon_dispatcher_session_messages_lost_total')})`, 'session messages lost per second']], { thresholds: above(undefined, 1) }),
      lines('Appends to channels', 'By outcome. `overrun`: a gateway does not read fast enough and its channel was emptied; `dead`: its gateway is gone.', [[`sum by (outcome) (${rate('carillon_dispatcher_channel_appends_total')})`, '{{outcome}}']], { unit: 'cps', width: 12 }),
    ]],
    ['Owners', [
      lines('Partitions change hands', 'Taken over, given up for want of progress, and owners that found they were none any more.', [
        [`sum(${rate('carillon_dispatcher_takeovers_total')})`, 'taken over'], [`sum(${rate('carillon_dispatcher_partitions_given_up_total')})`, 'given up'], [`sum(${rate('carillon_dispatcher_fenced_total')})`, 'fenced'],
      ], { unit: 'cps' }),
      lines('From the head again', 'Partitions read again from the head after a failure, reads that never ended, failovers seen.', [
        [`sum(${rate('carillon_dispatcher_rereads_total')})`, 'read again'], [`sum(${rate('carillon_dispatcher_watchdog_total')})`, 'reads given up'], [`sum(${rate('carillon_dispatcher_failovers_total')})`, 'failovers'],
      ], { unit: 'cps' }),
      lines('Failed calls', 'Calls to the broker that failed, by kind, and lost answers.', [[`sum by (kind) (${rate('carillon_dispatcher_broker_errors_total')})`, '{{kind}}'], [`sum(${rate('carillon_dispatcher_unknown_outcomes_total')})`, 'lost answers']], { unit: 'cps' }),
      lines('Dead letters', 'Messages put aside, by reason. `carillon dlq` lists and replays them. `dropped`: their partition had too many.', [[`sum by (reason) (${rate('carillon_dispatcher_dead_letters_total')})`, '{{reason}}'], [`sum(${rate('carillon_dispatcher_dead_letters_dropped_total')})`, 'dropped']], { unit: 'cps' }),
      lines('Probes', 'Sent, failed to be sent, and passed on to gateways.', [[`sum by (what) (${rate('carillon_dispatcher_probes_total')})`, '{{what}}']], { unit: 'cps' }),
      lines('Crashes and lives', 'Owners that crashed, dispatchers that had been declared dead, routes of dead gateways removed.', [
        [`sum(${rate('carillon_dispatcher_owner_crashes_total')})`, 'crashes'], [`sum(${rate('carillon_dispatcher_reincarnations_total')})`, 'reincarnations'], [`sum(${rate('carillon_dispatcher_dead_routes_total')})`, 'dead routes'],
      ], { unit: 'cps' }),
      lines('Lists', 'Items taken from plain lists, by outcome.', [[`sum by (outcome) (${rate('carillon_dispatcher_list_items_total')})`, '{{outcome}}']], { unit: 'cps' }),
      lines('Processors', 'Cores in use by dispatcher.', [[`rate(process_cpu_seconds_total{${S}}[$__rate_interval]) and on (namespace, pod, instance) carillon_dispatcher_living`, '{{pod}}']], { unit: 'none' }),
      lines('Memory', 'Resident memory by dispatcher.', [[processOf(`process_resident_memory_bytes{${S}}`, 'carillon_dispatcher_living'), '{{pod}}']], { unit: 'bytes' }),
    ]],
  ],
});
