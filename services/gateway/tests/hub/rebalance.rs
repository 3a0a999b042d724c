//! Gateways that have too many sessions give some up, and nobody else does.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_gateway::hub::{CloseReason, Connect, Hub, Identity};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::fixture::Fixture;

const KNOB: &str = "gateways: { rebalance: { rate: 10/s, within: 15 } }";
const RATE: usize = 10;

/// A transport that was closed.
#[derive(Clone, Copy, Debug)]
struct Closed {
    at: Instant,
    gateway: usize,
    reason: CloseReason,
}

/// Gateways, and clients that come back wherever the balancer sends them.
struct Fleet {
    gateways: Vec<Fixture>,
    closed: Arc<Mutex<Vec<Closed>>>,
}

impl Fleet {
    async fn new(gateways: usize, policy: &str) -> Self {
        let first = Fixture::new("").await;
        let mut all = Vec::new();
        for _ in 1..gateways {
            all.push(first.another_gateway().await);
        }
        all.insert(0, first);
        let fleet = Self {
            gateways: all,
            closed: Arc::default(),
        };
        fleet.set_policy(policy);
        fleet
    }

    fn set_policy(&self, text: &str) {
        let text = format!("anonymous: {{ sessions: true }}\n{text}");
        self.gateways
            .iter()
            .for_each(|gateway| gateway.set_policy_document(&text));
    }

    /// Clients that begin at one gateway. The balancer takes those that come back in turn to the `back` ones.
    async fn clients(&self, name: &str, count: usize, begin: usize, back: &[usize]) {
        for number in 0..count {
            let hubs: Vec<Hub> = self.gateways.iter().map(|gateway| gateway.hub.clone()).collect();
            let (closed, back, name) = (
                Arc::clone(&self.closed),
                back.to_vec(),
                format!("{name}-{number}"),
            );
            tokio::spawn(async move {
                let mut gateway = begin;
                for life in 0.. {
                    let reason = live(&hubs[gateway], &format!("{name}-{life}")).await;
                    closed.lock().push(Closed {
                        at: Instant::now(),
                        gateway,
                        reason,
                    });
                    // As stock clients do it: one to five seconds.
                    sleep(Duration::from_millis(1_000 + (number as u64 * 373) % 4_000)).await;
                    let turn = closed.lock().len();
                    gateway = back[turn % back.len()];
                }
            });
        }
        let all = self.counts().iter().sum::<u64>() + count as u64;
        while self.counts().iter().sum::<u64>() < all {
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn counts(&self) -> Vec<u64> {
        let sessions = |gateway: &Fixture| gateway.gauge("carillon_gateway_sessions");
        self.gateways.iter().map(sessions).collect()
    }

    fn closed(&self) -> Vec<Closed> {
        self.closed.lock().clone()
    }
}

async fn live(hub: &Hub, id: &str) -> CloseReason {
    let connect = Connect {
        id: id.into(),
        identity: Identity::default(),
        since: Vec::new(),
    };
    let mut handle = hub.connect(connect).await.unwrap();
    let outbox = handle.take_outbox().unwrap();
    let mut read = VecDeque::new();
    loop {
        if let Err(reason) = outbox.receive(&mut read).await {
            return reason;
        }
        read.drain(..).for_each(|outgoing| outbox.written(&outgoing));
    }
}

#[tokio::test(start_paused = true)]
async fn three_skewed_gateways_settle_within_the_share_at_the_rate() {
    let fleet = Fleet::new(3, KNOB).await;
    fleet.clients("old", 300, 0, &[0, 1, 2]).await;
    // Only who has too many gives some up: what the others then get may be less even.
    let within =
        |counts: &[u64]| counts.iter().sum::<u64>() == 300 && counts.iter().all(|count| *count <= 115);
    let started = Instant::now();
    while !within(&fleet.counts()) {
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "{:?}",
            fleet.counts()
        );
        sleep(Duration::from_secs(1)).await;
    }
    let settled = fleet.closed();
    for from in &settled {
        let window = |other: &&Closed| {
            other.gateway == from.gateway
                && other.at >= from.at
                && other.at < from.at + Duration::from_secs(1)
        };
        let busiest = settled.iter().filter(window).count();
        assert!(busiest <= RATE + 1, "{busiest} in one second");
        assert_eq!(from.reason, CloseReason::Rebalance);
    }
    assert!(settled.len() < 450, "{} closed to move 200", settled.len());
    // Chance may send one of the others too many, which gives them up in turn.
    let counter =
        |gateway: &Fixture| gateway.counter_of("carillon_gateway_sessions_closed_total", "rebalance");
    let counted: f64 = fleet.gateways.iter().map(counter).sum();
    assert_eq!(counted, settled.len() as f64);

    // A round that has begun may go on for a while; then it is over, for good.
    sleep(Duration::from_secs(60)).await;
    let over = fleet.closed().len();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(fleet.closed().len(), over);
    assert!(within(&fleet.counts()), "{:?}", fleet.counts());
    assert_eq!(fleet.counts().iter().sum::<u64>(), 300);
    assert_eq!(
        fleet.gateways[0].gauge("carillon_gateway_rebalance_excess_sessions"),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_without_the_knob_and_all_does_once_it_is_there() {
    let fleet = Fleet::new(2, "gateways: { drain_rate: 100/s }").await;
    fleet.clients("old", 60, 0, &[0, 1]).await;
    sleep(Duration::from_secs(120)).await;
    assert!(fleet.closed().is_empty());
    fleet.set_policy(KNOB);
    while fleet.counts()[1] < 25 {
        sleep(Duration::from_secs(1)).await;
    }
    fleet.set_policy("rooms: []");
    sleep(Duration::from_secs(10)).await;
    let over = fleet.closed().len();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(fleet.closed().len(), over);
}

#[tokio::test(start_paused = true)]
async fn the_balanced_the_last_one_and_the_draining_keep_their_sessions() {
    let balanced = Fleet::new(3, KNOB).await;
    for gateway in 0..3 {
        balanced
            .clients(&format!("g{gateway}"), 40 + gateway * 4, gateway, &[0, 1, 2])
            .await;
    }
    let alone = Fleet::new(1, KNOB).await;
    alone.clients("all", 100, 0, &[0]).await;
    // An empty one that is on its way out is nobody to share with.
    let draining = Fleet::new(2, KNOB).await;
    draining.gateways[1].hub.drain().await;
    draining.clients("stay", 100, 0, &[0]).await;
    sleep(Duration::from_secs(300)).await;
    for fleet in [balanced, alone, draining] {
        assert!(fleet.closed().is_empty(), "{:?}", fleet.counts());
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_does_not_help_it_is_tried_ever_less() {
    let fleet = Fleet::new(2, KNOB).await;
    // This balancer sends everybody back to where they were.
    fleet.clients("sticky", 40, 0, &[0]).await;
    let mut hours = Vec::new();
    for _ in 0..2 {
        let before = fleet.closed().len();
        sleep(Duration::from_secs(3_600)).await;
        hours.push(fleet.closed().len() - before);
    }
    // A look each five seconds: at most one in 64 leads to another try in the end.
    assert!(hours[0] > 0 && hours[1] <= 720 / 64 * 20, "{hours:?}");
    assert!(hours[1] < hours[0], "{hours:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_follows_the_policy_while_it_goes_on() {
    let fleet = Fleet::new(2, "gateways: { drain_rate: 10/s }").await;
    fleet.clients("old", 100, 0, &[1]).await;
    let hub = fleet.gateways[0].hub.clone();
    let started = Instant::now();
    let drained = tokio::spawn(async move { hub.drain().await });
    sleep(Duration::from_secs(3)).await;
    let slow = fleet.closed().len();
    assert!(
        (25..=35).contains(&slow),
        "{slow} in three seconds at ten a second"
    );
    fleet.set_policy("gateways: { drain_rate: 1000/s }");
    drained.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let closed = fleet.closed();
    assert_eq!(closed.len(), 100);
    assert!(closed.iter().all(|closed| closed.reason == CloseReason::Draining));
}
