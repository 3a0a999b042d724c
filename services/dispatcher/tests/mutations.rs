//! Each switch that breaks a rule must break a promise, or it proves nothing in the simulator.

#![allow(clippy::unwrap_used, clippy::panic)] // test code outside test functions

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use carillon_broker::{
    Fenced, Incarnation, MemoryBroker, Record, RecordEntry, Result,
    memory::ops::{leases, queue, record},
};
use carillon_dispatcher::{DispatcherMutations, DispatcherSettings, Sabotage};
use carillon_model::{Offset, Partition, Room, policy::HistoryLimits};
use common::{SECOND, World, faulty::Fault, until};
use tokio::time::sleep;

fn settings() -> DispatcherSettings {
    DispatcherSettings {
        batch_entries: 1,
        ..DispatcherSettings::default()
    }
}

/// What a gateway hears of five messages when one answer of the broker is lost.
async fn heard_with(mutations: DispatcherMutations, call: &'static str) -> (Vec<u64>, Vec<u64>) {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.mutant(settings(), mutations);
    until("it owns all", || process.owned() == 1).await;
    process.plan.set(call, Fault::Unavailable, 1);
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(world.send("a").await);
    }
    world.until_drained().await;
    ear.listen().await;
    (sent, ear.heard.remove("a").unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_consuming_read_loses_a_message() {
    let (sent, heard) = heard_with(DispatcherMutations::default(), "record").await;
    assert_eq!(sent, heard);
    let mutations = DispatcherMutations {
        consuming_read: true,
        ..DispatcherMutations::default()
    };
    let (sent, heard) = heard_with(mutations, "record").await;
    assert_ne!(sent, heard);
}

#[tokio::test(start_paused = true)]
async fn trimming_before_the_channels_loses_a_message() {
    let (sent, heard) = heard_with(DispatcherMutations::default(), "append_channel").await;
    assert_eq!(sent, heard);
    let mutations = DispatcherMutations {
        trim_before_channels: true,
        ..DispatcherMutations::default()
    };
    let (sent, heard) = heard_with(mutations, "append_channel").await;
    assert_ne!(sent, heard);
}

/// One process has the partition, loses it to another one, and gets it again.
async fn holes_with(mutations: DispatcherMutations) -> usize {
    let mut world = World::new(1);
    let mut ear = world.ear("g", &["a"]).await;
    let process = world.mutant(settings(), mutations);
    world.send("a").await;
    world.until_drained().await;
    // The other one's message does not come: this gateway's channel was lost, say.
    process.plan.stall();
    let other = world.dispatcher();
    other.plan.set("append_channel", Fault::Pretend, usize::MAX);
    until("the other one took over", || other.owned() == 1).await;
    world.send("a").await;
    world.until_drained().await;
    other.drain().await;
    process.plan.release();
    until("it is back", || process.metric("takeovers_total") == 2.0).await;
    world.send("a").await;
    world.until_drained().await;
    ear.listen().await.holes
}

#[tokio::test(start_paused = true)]
async fn what_was_read_in_an_earlier_lease_hides_a_hole() {
    assert_eq!(holes_with(DispatcherMutations::default()).await, 1);
    let mutations = DispatcherMutations {
        keep_prev_over_lease: true,
        ..DispatcherMutations::default()
    };
    assert_eq!(holes_with(mutations).await, 0);
}

/// Does what no broker offers, through the states of the embedded one.
struct Saboteur(MemoryBroker);

impl Saboteur {
    /// A time at which nobody holds a lease any more.
    fn later(now: u64) -> u64 {
        now + 3_600_000
    }
}

#[async_trait]
impl Sabotage for Saboteur {
    async fn read_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
    ) -> Result<Vec<(Room, Arc<[Incarnation]>)>> {
        let server = self.0.server_of(partition);
        let mut state = self.0.server_state(server);
        let later = Self::later(self.0.now(server));
        let thief = Incarnation::new("saboteur", 1);
        let grant =
            leases::acquire_partition(&mut state, later, partition, &thief, SECOND, Offset::ZERO).unwrap();
        let entry = |room: &Room| RecordEntry {
            room: room.clone(),
            offset: Offset::ZERO,
            prev: None,
            message: bytes::Bytes::new(),
            gap: None,
            history: HistoryLimits::NONE,
        };
        let record = Record {
            partition,
            token: grant.token,
            life: grant.life,
            horizon: grant.handled,
            entries: rooms.iter().map(entry).collect(),
        };
        // A copy's histories may have what they want.
        match record::record(&mut state, later, &record)? {
            Fenced::Done(outcome) => Ok(outcome.routes),
            Fenced::Lost => panic!("lost on a copy"),
        }
    }

    async fn trim_unfenced(&self, partition: Partition, upto: Offset) -> Result<()> {
        let server = self.0.server_of(partition);
        self.0.write(server, |state, now| {
            let later = Self::later(now);
            let thief = Incarnation::new("saboteur", 1);
            let mut copy = state.clone();
            let grant =
                leases::acquire_partition(&mut copy, later, partition, &thief, SECOND, Offset::ZERO).unwrap();
            queue::trim(&mut copy, later, partition, grant.token, &grant.life, upto);
            *state = copy;
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn routes_read_before_history_miss_a_join() {
    for mutated in [false, true] {
        let mut world = World::new(1);
        let saboteur: Arc<dyn Sabotage> = Arc::new(Saboteur(world.broker.clone()));
        let mutations = DispatcherMutations {
            routes_before_history: mutated.then_some(saboteur),
            ..DispatcherMutations::default()
        };
        let process = world.mutant(settings(), mutations);
        until("it owns all", || process.owned() == 1).await;
        process.plan.set("record", Fault::StallBefore, 1);
        let sent = world.send("a").await;
        process.plan.stalled().await;
        // A join now finds no message in history; so one must come through the route.
        let mut ear = world.ear("g", &["a"]).await;
        process.plan.release();
        world.until_drained().await;
        let heard = ear.listen().await.heard.get("a").cloned().unwrap_or_default();
        assert_eq!(heard == [sent], !mutated);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfenced_trim_loses_a_message() {
    for mutated in [false, true] {
        let mut world = World::new(1);
        let mut ear = world.ear("g", &["a"]).await;
        let saboteur: Arc<dyn Sabotage> = Arc::new(Saboteur(world.broker.clone()));
        let mutations = DispatcherMutations {
            unfenced_trim: mutated.then_some(saboteur),
            ..DispatcherMutations::default()
        };
        let process = world.mutant(settings(), mutations);
        until("it owns all", || process.owned() == 1).await;
        process.plan.set("append_channel", Fault::StallAfter, 1);
        world.send("a").await;
        process.plan.stalled().await;
        // A failover takes the channel back to before the message, while its owner still waits for the answer.
        let server = world.broker.server_of(Partition(0));
        let before = world.broker.recent_states(server).pop().unwrap();
        world
            .broker
            .replace_server_state(server, before, carillon_broker::Life("another".into()), 0);
        process.plan.release();
        world.until_drained().await;
        sleep(SECOND).await;
        let heard = ear.listen().await.heard.get("a").map_or(0, Vec::len);
        assert_eq!(heard, usize::from(!mutated), "mutated: {mutated}");
    }
}
