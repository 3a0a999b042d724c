//! The embedded broker passes the conformance suite, on the real clock and on a paused one.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Append, Broker, Life, MemoryBroker, MemoryOptions, NewMessage, Queue, SharedBroker,
    conformance::{self, Capability, Installation, Subject},
    memory::{ServerState, ops},
};
use carillon_model::{Offset, Partition, PartitionCount, Room};
use parking_lot::Mutex;

/// Every case but the one of a moved slot: memory has no slots.
const CASES: usize = 136;
const SKIPPED: &[&str] = &["a_partition_moves_under_load"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_on_the_real_clock() {
    run(1).await;
}

#[tokio::test(start_paused = true)]
async fn one_server_on_a_paused_clock() {
    run(1).await;
}

#[tokio::test(start_paused = true)]
async fn three_servers_on_a_paused_clock() {
    run(3).await;
}

async fn run(servers: usize) {
    let report = conformance::run(&Memory { servers }, &conformance::cases()).await;
    report.assert(CASES, SKIPPED);
}

struct Memory {
    servers: usize,
}

#[async_trait]
impl Subject for Memory {
    fn name(&self) -> String {
        format!("memory, {} server(s)", self.servers)
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![
            Capability::PassTime,
            Capability::PushList,
            Capability::WriteRaw,
            Capability::Restart,
            Capability::FailOver,
            Capability::Flush,
            Capability::LimitMemory,
        ]
    }

    async fn install(&self) -> Box<dyn Installation> {
        let mut options = MemoryOptions::new(PartitionCount::new(8).unwrap(), 1_800_000_000_000);
        options.servers = self.servers;
        Box::new(Installed {
            broker: MemoryBroker::new(options),
            marked: Mutex::default(),
            lives: AtomicU64::new(1),
        })
    }
}

struct Installed {
    broker: MemoryBroker,
    marked: Mutex<Vec<ServerState>>,
    lives: AtomicU64,
}

impl Installed {
    fn servers(&self) -> std::ops::Range<usize> {
        0..self.broker.servers()
    }

    fn states(&self) -> Vec<ServerState> {
        self.servers()
            .map(|server| self.broker.server_state(server))
            .collect()
    }

    /// Every server goes on from a state, in another life, its clock moved.
    fn revive(&self, states: Vec<ServerState>, clock: i64) {
        let number = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        for (server, state) in states.into_iter().enumerate() {
            let life = Life(format!("memory-{server}-{number}").into());
            let skew = self.broker.skew(server) + clock;
            self.broker.replace_server_state(server, state, life, skew);
        }
    }
}

#[async_trait]
impl Installation for Installed {
    async fn broker(&self) -> SharedBroker {
        Arc::new(self.broker.clone())
    }

    async fn pass_time(&self, time: Duration) {
        for server in self.servers() {
            let skew = self.broker.skew(server) + i64::try_from(time.as_millis()).unwrap();
            self.broker.set_skew(server, skew);
        }
    }

    async fn push_list(&self, list: &str, item: Bytes) {
        self.broker.push_list(list, item).unwrap();
    }

    async fn occupy_list(&self, list: &str) {
        let server = self.broker.server_of_list(list);
        self.broker
            .write(server, |state, _| ops::lists::occupy(state, list));
    }

    async fn write_raw(&self, partition: Partition, entry: Bytes) {
        let message = NewMessage {
            entries: vec![(Room::all(), entry)],
            idempotency: None,
        };
        let append = Append {
            partition,
            messages: vec![message],
            known: Offset::ZERO,
            queue_limit: u64::MAX,
            keep_keys: Duration::ZERO,
        };
        self.broker.append(append).await.unwrap();
    }

    async fn restart(&self) {
        self.revive(self.states(), 0);
    }

    async fn mark(&self) {
        *self.marked.lock() = self.states();
    }

    async fn fail_over(&self) {
        let marked = std::mem::take(&mut *self.marked.lock());
        self.revive(marked, -15);
    }

    async fn flush(&self) {
        for server in self.servers() {
            let life = self.broker.server_state(server).life;
            let empty = ServerState::empty(life.clone(), MemoryOptions::MEMORY_LIMIT);
            self.broker
                .replace_server_state(server, empty, life, self.broker.skew(server));
        }
    }

    async fn limit_memory(&self, more: Option<u64>) {
        for server in self.servers() {
            self.broker.write(server, |state, _| {
                state.memory_limit = more.map_or(MemoryOptions::MEMORY_LIMIT, |more| state.used() + more);
            });
        }
    }
}

#[test]
fn partitions_are_spread_over_the_servers() {
    let mut options = MemoryOptions::new(PartitionCount::new(8).unwrap(), 0);
    options.servers = 3;
    let broker = MemoryBroker::new(options);
    let servers: Vec<usize> = broker
        .partitions()
        .partitions()
        .map(|partition| broker.server_of(partition))
        .collect();
    assert_eq!(servers, [0, 0, 0, 1, 1, 1, 2, 2]);
}
