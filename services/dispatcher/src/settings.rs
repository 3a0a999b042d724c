//! What can be set. The defaults are those of DESIGN §13; a simulation shortens what it wants to see often.

use std::time::Duration;

use carillon_chassis::telemetry::TracedShare;

/// How a dispatcher behaves. Every duration is by the process' own monotonic clock.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatcherSettings {
    /// The pod's name: the first half of the incarnation.
    pub pod: String,
    /// How long the process counts as alive after each renewal.
    pub alive_for: Duration,
    /// How often the life is renewed.
    pub renew_alive_every: Duration,
    /// How often the living, the partitions wanted and the lives of servers are looked at.
    pub survey_every: Duration,
    /// After a server was replaced, so long is waited before processes that are neither alive nor left count as died with it:
    /// `alive_for`, and time to register again.
    pub judge_processes_after: Duration,
    /// How often it is looked at how much waits in the partitions owned.
    pub look_at_backlog_every: Duration,
    /// How long a lease lasts after each renewal.
    pub lease_for: Duration,
    /// How often a lease is renewed.
    pub renew_lease_every: Duration,
    /// Each call to the broker is given up after this time, with an unknown outcome.
    pub call_timeout: Duration,
    /// How long a read waits for the first entry of an idle partition.
    pub read_block: Duration,
    /// At most so many entries are handled together.
    pub batch_entries: usize,
    /// At most so many bytes of entries are handled together, but never less than one entry.
    pub batch_bytes: usize,
    /// Where a channel would hold more unread bytes, it is emptied and its gateway told so.
    pub channel_bytes: u64,
    /// A channel that has not answered for this long is parked: its partition goes on without it.
    pub channel_patience: Duration,
    /// At most so many channels are written to at once, per partition.
    pub channels_at_once: usize,
    /// For so many rooms per partition the last offset is remembered between batches.
    pub remembered_rooms: usize,
    /// The first pause after a failure of the broker; each further one is twice as long.
    pub pause_least: Duration,
    /// The longest pause after a failure of the broker.
    pub pause_most: Duration,
    /// A message that can't be handled is tried so often.
    pub tries: u32,
    /// All tries of a message are done within this time.
    pub tries_within: Duration,
    /// A partition keeps so many dead letters; the oldest of more are dropped.
    pub dead_letters: u64,
    /// How often a probe goes out.
    pub probe_every: Duration,
    /// A partition whose head has not moved for this long, though the broker answers, makes no progress.
    pub stuck_after: Duration,
    /// A partition given up for that is left to others for this long.
    pub shun_for: Duration,
    /// Appends (probes, items of lists) wait while a queue holds so many entries.
    pub queue_entries: u64,
    /// How long the numbers of list items are remembered as idempotency keys.
    pub keep_keys: Duration,
    /// Items of lists are taken so many at a time.
    pub list_items: usize,
    /// How often an empty list is looked at, give or take a quarter.
    pub list_poll_every: Duration,
    /// The largest list item, in bytes, before and after it is formatted.
    pub message_bytes: usize,
    /// A dispatcher that is told to go waits this long for the batches in hand.
    pub drain_for: Duration,
    /// The share of list items whose trace is recorded.
    pub traced: TracedShare,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            pod: "dispatcher".to_owned(),
            alive_for: Duration::from_secs(10),
            renew_alive_every: Duration::from_secs(2),
            survey_every: Duration::from_secs(1),
            judge_processes_after: Duration::from_secs(15),
            look_at_backlog_every: Duration::from_secs(5),
            lease_for: Duration::from_secs(5),
            renew_lease_every: Duration::from_millis(1500),
            call_timeout: Duration::from_secs(2),
            read_block: Duration::from_secs(5),
            batch_entries: 128,
            batch_bytes: 4 << 20,
            channel_bytes: 16 << 20,
            channel_patience: Duration::from_secs(1),
            channels_at_once: 64,
            remembered_rooms: 10_000,
            pause_least: Duration::from_millis(50),
            pause_most: Duration::from_secs(1),
            tries: 5,
            tries_within: Duration::from_secs(2),
            dead_letters: 10_000,
            probe_every: Duration::from_secs(5),
            stuck_after: Duration::from_secs(10),
            shun_for: Duration::from_secs(30),
            queue_entries: 100_000,
            keep_keys: Duration::from_secs(600),
            list_items: 100,
            list_poll_every: Duration::from_millis(100),
            message_bytes: 64 << 10,
            drain_for: Duration::from_secs(30),
            traced: TracedShare::default(),
        }
    }
}
