//! What each hop of a message costs Redis, counted by Redis itself: `total_reads_processed` (how often it read from a
//! socket, so a pipeline counts once) and the calls in `commandstats`. docs/redis.md states them.

use std::time::Duration;

use carillon_broker::{
    Append, AppendOutcome, Broker as _, ChannelAppend, ChannelReader, Channels as _, Fenced, FencingToken,
    Incarnation, Leases as _, Membership as _, NewMessage, Queue as _, QueueReader, Record, RecordEntry,
    redis::{Mode, RedisBroker},
};
use carillon_model::{Offset, Partition, Room, policy::HistoryLimits};

use crate::{
    server::Server,
    subject::{gateway_member, options},
};

/// Batches that are counted.
const BATCHES: u64 = 200;
/// Messages in each.
const MESSAGES: usize = 64;
/// For reading the counters themselves, and what connections say when they are made.
const MARGIN: f64 = 1.1;
const MINUTE: Duration = Duration::from_secs(60);

struct Costs<'a> {
    server: &'a Server,
    reads: u64,
}

impl<'a> Costs<'a> {
    /// Begins to count at zero.
    fn of(server: &'a Server) -> Self {
        server.cli(&["CONFIG", "RESETSTAT"]);
        Self {
            server,
            reads: reads(server),
        }
    }

    /// Reads per batch since then.
    fn per_batch(&self) -> f64 {
        let spent = reads(self.server) - self.reads;
        #[allow(clippy::cast_precision_loss)] // a few thousand
        let share = spent as f64 / BATCHES as f64;
        share
    }

    /// How often each of these was called.
    fn calls(&self, command: &str) -> u64 {
        let all = self.server.cli(&["INFO", "commandstats"]);
        let line = all
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

fn reads(server: &Server) -> u64 {
    let all = server.cli(&["INFO", "stats"]);
    let line = all
        .lines()
        .find_map(|line| line.strip_prefix("total_reads_processed:"));
    line.unwrap().trim().parse().unwrap()
}

struct Path {
    broker: RedisBroker,
    partition: Partition,
    room: Room,
    gateway: Incarnation,
    token: FencingToken,
    queue: Box<dyn QueueReader>,
    channel: Box<dyn ChannelReader>,
}

impl Path {
    async fn lay(server: &Server) -> Self {
        let broker = RedisBroker::new(options(server.url(), Mode::Standalone)).unwrap();
        let room = Room::new("arrivals").unwrap();
        let partition = broker.partitions().partition_of(&room);
        let gateway = Incarnation::new("gateway-0", "1");
        broker.register(&gateway_member(&gateway), MINUTE).await.unwrap();
        let owner = Incarnation::new("dispatcher-0", "1");
        let grant = broker
            .acquire_partition(partition, &owner, MINUTE, Offset::ZERO)
            .await;
        let grant = grant.unwrap().unwrap();
        Self {
            queue: broker.open_queue(partition).await.unwrap(),
            channel: broker.open_channel(&gateway).await.unwrap(),
            token: grant.token,
            broker,
            partition,
            room,
            gateway,
        }
    }
}

#[tokio::test]
async fn at_saturation_each_hop_is_one_round_trip_per_batch() {
    let server = Server::start(&["--appendonly", "no"]);
    let mut path = Path::lay(&server).await;
    let mut table = String::new();
    let mut state = |hop: &str, costs: &Costs<'_>, script: &str, commands: &[&str]| {
        let per_batch = costs.per_batch();
        assert!(per_batch <= MARGIN, "{hop}: {per_batch} round trips per batch");
        assert!(
            per_batch >= 1.0,
            "{hop}: {per_batch} round trips per batch: they are not counted"
        );
        assert!(
            costs.calls(script) >= BATCHES,
            "{hop}: {script} is not how it is done"
        );
        let of = |command: &&str| {
            #[allow(clippy::cast_precision_loss)] // a few thousand
            let each = costs.calls(command) as f64 / BATCHES as f64;
            format!(" {command} {each:.1}")
        };
        let inside: String = commands.iter().map(of).collect();
        table += &format!("{hop}: {per_batch:.2} round trips,{inside}\n");
    };

    let costs = Costs::of(&server);
    for _ in 0..BATCHES {
        let message = || NewMessage {
            entries: vec![(path.room.clone(), vec![b'x'; 200].into())],
            idempotency: None,
        };
        let request = Append {
            partition: path.partition,
            messages: (0..MESSAGES).map(|_| message()).collect(),
            known: Offset::ZERO,
            queue_limit: 1_000_000,
            keep_keys: MINUTE,
        };
        let outcome = path.broker.append(request).await.unwrap();
        assert!(matches!(outcome, AppendOutcome::Appended(_)));
    }
    state("ingest to queue", &costs, "evalsha", &["xadd"]);

    let head = path.queue.read_head(path.token, MESSAGES).await.unwrap();
    let mut batches = vec![head.items];
    let costs = Costs::of(&server);
    for number in 0..BATCHES {
        let after = batches.last().unwrap().last().unwrap().offset;
        if number + 1 == BATCHES {
            // The last one waits, as a reader does when there is nothing to read.
            let read = path
                .queue
                .read_after(after, MESSAGES, Duration::from_millis(1))
                .await
                .unwrap();
            assert!(read.items.is_empty());
            break;
        }
        let read = path.queue.read_after(after, MESSAGES, MINUTE).await.unwrap();
        assert_eq!(read.items.len(), MESSAGES);
        batches.push(read.items);
    }
    state("queue to dispatcher", &costs, "xread", &["xread"]);

    let life = head.life;
    let costs = Costs::of(&server);
    for batch in &batches {
        let entry = |item: &carillon_broker::QueueItem| RecordEntry {
            room: path.room.clone(),
            offset: item.offset,
            prev: None,
            message: item.entry.clone(),
            gap: None,
            history: HistoryLimits::DEFAULT,
        };
        let record = Record {
            partition: path.partition,
            token: path.token,
            life: life.clone(),
            horizon: head.handled,
            entries: batch.iter().map(entry).collect(),
        };
        assert!(matches!(
            path.broker.record(record).await.unwrap(),
            Fenced::Done(_)
        ));
    }
    state(
        "history and routes",
        &costs,
        "evalsha",
        &["xadd", "set", "smembers"],
    );

    let costs = Costs::of(&server);
    for _ in &batches {
        let kept = path
            .broker
            .append_channel(&path.gateway, vec![b'x'; 9_000].into(), 1 << 30)
            .await;
        assert_eq!(kept.unwrap(), ChannelAppend::Kept);
    }
    state("dispatcher to channel", &costs, "evalsha", &["xadd"]);

    let costs = Costs::of(&server);
    for batch in &batches {
        let upto = batch.last().unwrap().offset;
        let trimmed = path
            .broker
            .trim(path.partition, path.token, &life, upto, &[])
            .await
            .unwrap();
        assert_eq!(trimmed, Fenced::Done(()));
    }
    state("acknowledgement", &costs, "evalsha", &["xtrim"]);

    let costs = Costs::of(&server);
    for _ in &batches {
        let read = path.channel.read(1, MINUTE).await.unwrap();
        assert_eq!(read.items.len(), 1);
    }
    state("channel to gateway", &costs, "xread", &["xread", "xtrim"]);
    eprintln!("{BATCHES} batches of {MESSAGES} messages\n{table}");
}
