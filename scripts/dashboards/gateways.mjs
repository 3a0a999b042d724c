// The gateways: who is connected, how they come and go, and what it costs.
import { above, dashboard, lines, now, processOf, rate, S, stat, states } from './parts.mjs';

const own = (name) => processOf(`${name}{${S}}`, 'carillon_gateway_sessions');

export default dashboard({
  name: 'gateways',
  title: 'Gateways',
  description: 'Sessions, connections, clients\' requests, drains and the gateways\' own path.',
  sections: [
    ['Sessions', [
      stat('Sessions', 'Clients that are connected.', `sum(${now('carillon_gateway_sessions')})`),
      stat('Room left', 'Sessions that can still be taken.', `sum(${now('carillon_gateway_sessions_limit')}) - sum(${now('carillon_gateway_sessions')})`),
      stat('Skew', 'The fullest gateway over the mean. Rebalancing aims at 1.15 or less.', `max(${now('carillon_gateway_sessions')}) / avg(${now('carillon_gateway_sessions')} > 0)`, { unit: 'none', decimals: 2, thresholds: above(1.15, 1.5) }),
      stat('Rooms held', 'Rooms with a route to a gateway, each gateway counted, those left less than 30 s ago included.', `sum(${now('carillon_gateway_rooms')})`),
      stat('Draining', 'Gateways that hand their sessions over.', `sum(${now('carillon_draining')} and on (namespace, pod, instance) carillon_gateway_sessions)`),
      stat('Oldest probe', 'How long ago a dispatcher\'s probe last came through a gateway\'s channel. One is sent every 5 s by each dispatcher.', `max(time() - ${now('carillon_gateway_last_probe_timestamp_seconds')})`, { unit: 's', thresholds: above(15, 30) }),
      lines('Sessions by gateway', 'Even after a rollout; a gateway that drains glides down.', [[now('carillon_gateway_sessions'), '{{pod}}']], { stack: true }),
      lines('Begin', 'Sessions that begin per second, by gateway.', [[`sum by (pod) (${rate('carillon_gateway_sessions_opened_total')})`, '{{pod}}']], { unit: 'cps' }),
      lines('End, by reason', 'Sessions that end per second. `draining` is a deploy, `slow_reader` a client that does not read, `internal` a fault of ours.', [[`sum by (reason) (${rate('carillon_gateway_sessions_closed_total')})`, '{{reason}}']], { unit: 'cps' }),
      lines('Connections', 'TCP connections: WebSockets, and those that carry HTTP requests (polling, the page).', [[`sum by (transport) (${now('carillon_gateway_connections')})`, '{{transport}}']], { stack: true }),
      lines('Not let in', 'Handshakes that were refused, by code. The client guide explains the codes.', [[`sum by (code) (${rate('carillon_gateway_handshakes_refused_total')})`, '{{code}}']], { unit: 'cps' }),
      lines('Above their share', 'Sessions that a gateway still gives up, where the policy says `gateways.rebalance`. It falls to zero after a scale-up.', [[now('carillon_gateway_rebalance_excess_sessions'), '{{pod}}']]),
      lines('Written', 'Bytes per second written to clients.', [[`sum by (pod) (${rate('carillon_gateway_written_bytes_total')})`, '{{pod}}']], { unit: 'Bps', stack: true }),
    ]],
    ['The path', [
      states('Probes arrive', 'Fails where probes reach other gateways and not this one. Such a gateway is unready.', [[now('carillon_ready_check', 'check="probes"'), '{{pod}}']], { good: 'yes', bad: 'missing' }),
      lines('Age of the newest probe', 'Grows where no probes come: everywhere, when no dispatcher works; at one gateway, when its channel is not read.', [[`time() - ${now('carillon_gateway_last_probe_timestamp_seconds')}`, '{{pod}}']], { unit: 's', width: 12, thresholds: above(15, 30) }),
      states('Draining', 'Processes on their way out.', [[`${now('carillon_draining')} and on (namespace, pod, instance) carillon_gateway_sessions`, '{{pod}}']], { good: 'no', bad: 'draining', goodIs: 0 }),
      lines('Time left of a drain', 'Until the drain\'s deadline. Below zero the process is late: it is killed when Kubernetes\' grace period ends. Zero where no drain is.', [[`(${now('carillon_drain_deadline_timestamp_seconds')} - time()) * ${now('carillon_draining')}`, '{{pod}}']], { unit: 's', width: 12, min: undefined }),
      lines('Routes and lives', 'Routes written again, failovers seen, and times a gateway had been declared dead and came back as another incarnation.', [
        [`sum(${rate('carillon_gateway_routes_reasserted_total')})`, 'routes re-asserted'], [`sum(${rate('carillon_gateway_failovers_total')})`, 'failovers'], [`sum(${rate('carillon_gateway_reincarnations_total')})`, 'reincarnations'],
      ], { unit: 'cps' }),
      lines('Handed on between gateways', 'Requests of sessions at another gateway, by outcome. `unreachable` means that gateways do not reach each other: look at network policies.', [[`sum by (outcome) (${rate('carillon_gateway_forwarded_requests_total')})`, '{{outcome}}'], [`sum(${now('carillon_gateway_forwarded_websockets')})`, 'WebSockets carried']], { unit: 'cps' }),
      lines('Failed calls', 'Calls to the broker that failed, by kind.', [[`sum by (kind) (${rate('carillon_gateway_broker_errors_total')})`, '{{kind}}']], { unit: 'cps' }),
    ]],
    ['What clients ask for', [
      lines('Requests', 'Events of clients, by what they ask for.', [[`sum by (request) (${rate('carillon_gateway_client_requests_total')})`, '{{request}}']], { unit: 'cps' }),
      lines('Refused', 'Requests that were refused, by code.', [[`sum by (code) (${rate('carillon_gateway_client_requests_refused_total')})`, '{{code}}']], { unit: 'cps' }),
      lines('Looking back', 'Requests for the newest messages of a room (`history`, and joins that rewind), by outcome, and the reads they took: equal requests share one. `refused` means that too many waited.', [
        [`sum by (outcome) (${rate('carillon_gateway_history_requests_total')})`, '{{outcome}}'], [`sum(${rate('carillon_gateway_newest_reads_total')})`, 'reads'],
      ], { unit: 'cps' }),
      lines('Publishes', 'Messages of clients, by what became of them.', [[`sum by (outcome) (${rate('carillon_gateway_publishes_total')})`, '{{outcome}}']], { unit: 'cps' }),
      lines('Presence', 'Rooms whose presence is stated and watched, and events on it.', [
        [`sum(${now('carillon_gateway_presence_rooms')})`, 'rooms stated'], [`sum(${now('carillon_gateway_presence_watched_rooms')})`, 'rooms watched'], [`sum by (kind) (${rate('carillon_gateway_presence_events_total')})`, 'events/s: {{kind}}'],
      ]),
      lines('Keys for tokens', 'Fetches of the key set by outcome, and keys that are known. Nothing where no `identity.jwks.url` is set.', [
        [`sum by (outcome) (${rate('carillon_gateway_jwks_fetches_total')})`, 'fetches/s: {{outcome}}'], [`max(${now('carillon_gateway_jwks_keys')})`, 'keys'],
      ]),
    ]],
    ['Cost', [
      lines('Processors', 'Cores in use by gateway.', [[`rate(process_cpu_seconds_total{${S}}[$__rate_interval]) and on (namespace, pod, instance) carillon_gateway_sessions`, '{{pod}}']], { unit: 'none' }),
      lines('Memory', 'Resident memory by gateway.', [[own('process_resident_memory_bytes'), '{{pod}}']], { unit: 'bytes' }),
      lines('Memory per session', 'Resident memory divided by sessions. Only tells something with many.', [[`process_resident_memory_bytes{${S}} / on (namespace, pod, instance) (carillon_gateway_sessions > 0)`, '{{pod}}']], { unit: 'bytes' }),
      lines('Looks at logins', 'Looks at the logins of sessions that are known by a cookie. `ended`: the session is closed; `unanswered`: the store did not answer, and the session stays.', [[`sum by (outcome) (${rate('carillon_gateway_login_looks_total')})`, '{{outcome}}']], { unit: 'cps' }),
      lines('Outboxes', 'Bytes that wait for all sessions together, and what may wait (`gateway.outboxes`).', [[now('carillon_gateway_outbox_bytes'), '{{pod}}'], [`max(${now('carillon_gateway_outbox_bytes_limit')})`, 'limit']], { unit: 'bytes' }),
      lines('No room in all outboxes', 'Times a message found no room for a session because all outboxes together held too much: it is caught up later, or closed.', [[`sum by (pod) (${rate('carillon_gateway_outboxes_over_budget_total')})`, '{{pod}}']], { unit: 'cps' }),
      lines('Tails', 'Bytes of recent messages kept in memory for reconnects; bounded by `gateway.tails`.', [[now('carillon_gateway_tail_bytes'), '{{pod}}']], { unit: 'bytes' }),
      lines('File descriptors', 'Open, and how many the process may open. Each connection takes one.', [[own('process_open_fds'), '{{pod}} open'], [own('process_max_fds'), '{{pod}} at most']], { log: true }),
    ]],
  ],
});
