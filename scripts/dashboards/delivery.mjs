// A message's way, hop by hop, and what happens when something of it was missed.
import { N, above, dashboard, heatmap, lines, quantile, rate, stat } from './parts.mjs';

const hops = (q) => [
  [quantile(q, 'carillon_ingest_request_seconds'), 'ingest: request to answer'],
  [quantile(q, 'carillon_dispatcher_batch_seconds'), 'dispatcher: a batch'],
  [quantile(q, 'carillon_gateway_arrival_seconds'), 'acceptance to gateway'],
  [quantile(q, 'carillon_gateway_delivery_seconds'), 'acceptance to connection'],
];

export default dashboard({
  name: 'delivery',
  title: 'Delivery path',
  description: 'From acceptance to the client\'s connection: the objective, each hop, and recovery.',
  sections: [
    ['The objective: 99.9 % within 1 s', [
      stat('In time', 'Share of what was delivered live within 1 s of its acceptance, last hour.', `1 - max(carillon:delivery_late:ratio_rate1h{${N}})`, { unit: 'percentunit', decimals: 3, width: 6, thresholds: { base: 'red', at: [[0.99, 'orange'], [0.999, 'green']] } }),
      stat('Burn rate, 1 h', 'How many times faster than allowed the budget is used. At 1 it lasts exactly 30 days; at 14.4 two days.', `max(carillon:delivery_late:ratio_rate1h{${N}}) / 0.001`, { unit: 'none', decimals: 2, width: 6, thresholds: above(1, 14.4) }),
      stat('Burn rate, 6 h', 'The same over six hours; pages from 6 on.', `max(carillon:delivery_late:ratio_rate6h{${N}}) / 0.001`, { unit: 'none', decimals: 2, width: 6, thresholds: above(1, 6) }),
      stat('Burn rate, 3 d', 'The same over three days; a ticket from 1 on.', `max(carillon:delivery_late:ratio_rate3d{${N}}) / 0.001`, { unit: 'none', decimals: 2, width: 6, thresholds: above(0.5, 1) }),
      heatmap('Acceptance to connection', 'How long live messages took, each session counted. By the clocks of two machines: what they differ by is in it.', 'carillon_gateway_delivery_seconds'),
      lines('Late, by window', 'Share that took longer than 1 s. The dashed lines are where tickets and pages begin.', ['5m', '30m', '1h', '2h', '6h', '1d', '3d'].map((window) => [`carillon:delivery_late:ratio_rate${window}{${N}}`, `{{namespace}} ${window}`]), { unit: 'percentunit', width: 12, thresholds: above(0.001, 0.0144) }),
    ]],
    ['Hop by hop', [
      lines('Half of all', 'Medians of each hop. The hop whose line jumps is where to look.', hops(0.5), { unit: 's' }),
      lines('99 %', 'The slowest hundredth begins here.', hops(0.99), { unit: 's' }),
      lines('Gateway\'s own part', 'From arrival through the channel to the connection, 99 %: if this grows and arrival does not, gateways lack processor time or clients read slowly.', [
        [`${quantile(0.99, 'carillon_gateway_delivery_seconds')} - ${quantile(0.99, 'carillon_gateway_arrival_seconds')}`, 'delivery minus arrival'],
      ], { unit: 's', min: undefined }),
      lines('Messages', 'Accepted, recorded and framed. Frames are more than messages by the gateways that hold a room.', [
        [`sum(${rate('carillon_ingest_copies_total')})`, 'accepted, once per room'], [`sum(${rate('carillon_dispatcher_messages_total')})`, 'recorded'], [`sum(${rate('carillon_dispatcher_frames_total')})`, 'framed for gateways'], [`sum(${rate('carillon_gateway_frames_total')})`, 'arrived at gateways'],
      ], { unit: 'cps' }),
      lines('Deliveries', 'Messages queued for sessions, by gateway.', [[`sum by (pod) (${rate('carillon_gateway_deliveries_total')})`, '{{pod}}']], { unit: 'cps', stack: true }),
      lines('Listeners per frame', 'How many sessions of a gateway get each message that comes to it. Near zero: rooms are held that nobody listens to.', [[`sum(${rate('carillon_gateway_deliveries_total')}) / sum(${rate('carillon_gateway_frames_total')})`, 'deliveries per frame']], { unit: 'none' }),
    ]],
    ['What was missed or came twice', [
      lines('Holes and gaps', 'Holes are found by a message\'s prev and caught up from history; gaps are what could not be, and was told to clients.', [
        [`sum(${rate('carillon_gateway_holes_found_total')})`, 'holes found'], [`sum(${rate('carillon_gateway_gaps_told_total')})`, 'gaps told'], [`sum(${rate('carillon_gateway_resets_total')})`, 'positions taken back'],
      ], { unit: 'cps' }),
      lines('Channels', 'Channels that overran or lost entries, and frames that nobody holds or can read. Every room of the gateway is caught up then.', [
        [`sum(${rate('carillon_gateway_overruns_total')})`, 'overruns'], [`sum(${rate('carillon_gateway_channels_lost_total')})`, 'lost'], [`sum(${rate('carillon_gateway_unreadable_entries_total')})`, 'unreadable'], [`sum(${rate('carillon_gateway_frames_unheld_total')})`, 'not held'],
      ], { unit: 'cps' }),
      lines('Repeats', 'Done twice after a failure and dropped on the way; clients see none of it.', [
        [`sum(${rate('carillon_ingest_repeats_total')})`, 'ingest, by idempotency key'], [`sum(${rate('carillon_dispatcher_repeats_total')})`, 'dispatcher'], [`sum(${rate('carillon_gateway_repeats_dropped_total')})`, 'gateway'],
      ], { unit: 'cps' }),
      lines('Recoveries', 'Joins: without a cursor, with nothing missing, or with something missing, which the client was told.', [[`sum by (result) (${rate('carillon_gateway_recoveries_total')})`, '{{result}}']], { unit: 'cps' }),
      lines('Where recoveries come from', 'From the tails in memory, or by reading history. In a storm of reconnects most should come from memory.', [
        [`sum(${rate('carillon_gateway_recoveries_from_memory_total')})`, 'from memory'], [`sum(${rate('carillon_gateway_history_reads_total')})`, 'pages of history read'], [`sum(${rate('carillon_gateway_catch_ups_after_reassertion_total')})`, 'found behind by a route'],
      ], { unit: 'cps' }),
      lines('Slow readers', 'Sessions whose outbox was full, and messages of session rooms that a full outbox could not take.', [
        [`sum(${rate('carillon_gateway_sessions_fell_behind_total')})`, 'fell behind'], [`sum(${rate('carillon_gateway_sessions_closed_total', 'reason="slow_reader"')})`, 'closed for it'], [`sum(${rate('carillon_gateway_session_messages_dropped_total')})`, 'session messages dropped'],
      ], { unit: 'cps' }),
    ]],
  ],
});
