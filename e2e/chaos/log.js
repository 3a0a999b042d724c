// The log of a run: everything that happened, in order, each with its time. The auditor reads nothing else.
//
//   service   { service, service_kind, state: 'started' | 'stopped' | 'continued' | 'leaving' | 'gone' }
//   ready     { service, ok, text }                what /readyz answered
//   connected { client, gateway } · disconnected { client, reason } · refused { client, code }
//   left      { client } · returned { client }     the scenario took it away, and brought it back
//   told      { client, room, before, offset, recovered }    what `cursors` said, and the cursor it had
//   got       { client, room, n, id, offset }      a message came; `n` is its number in its room
//   asked     { client, key, what } · answered { key, ok, code }
//   sent      { room, n, by, tries, outcome, offset, id, answered }    `at`: the first try; `answered`: its outcome was known
//   fault     { name, loses, cut, only } · healed { name }    `loses`: Redis may lose something by it; `cut`: gateways that
//                                                       really can't reach the primary; `only`: services that it
//                                                       concerns, if not all
//   lacking {} · ample {}                         fewer replicas are there than every write waits for
//   flushed   {}                                  everything on the server was deleted
//   held      { room, offsets, bounded }           at the end: what the server holds of a room, and whether it keeps all
//   queued    { count }                            at the end: what waits in the queues
//   declared  { service, count }                   at the end: how often a gateway was declared dead
//   end       {}
export class Log {
  events = [];
  #began = performance.now();

  get now() {
    return performance.now() - this.#began;
  }

  add(kind, fields = {}) {
    const event = { at: this.now, kind, ...fields };
    this.events.push(event);
    return event;
  }
}
