//! Says to Redis which rooms this gateway holds, and to the shards when a route stands.
//!
//! One task owns the routes of all shards. Per partition one call is under way at a time, with as many rooms as are
//! due, so a room's route changes go one at a time, each awaited. A room nobody is in any more lingers 30 s before
//! its route is removed, and a join in that time costs nothing.
//!
//! Adding or re-asserting a route is a join: the answer says where the room stands, and every shard that holds it
//! compares (DESIGN §5, *Routes*).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carillon_broker::{BrokerError, PartitionState, Rooms, RoomsState, SharedBroker};
use carillon_model::{Offset, Partition, PartitionCount, Room};
use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use indexmap::IndexSet;
use tokio::{sync::Notify, time::Instant};

use super::{
    HubSettings,
    health::{HubHealth, Source},
    held_routes::{PartitionRoutes, Routes},
    marker_ahead::MarkerAhead,
    metrics::HubMetrics,
    mutations::HubMutations,
    route_table::{RouteTable, Wishes},
    shard::{Answer, Shards},
    standing::{Epoch, Standing},
    ticks::{Tick, Ticks},
    wake::sleep_until,
};

/// What a route's answer said of a room.
#[derive(Clone, Debug)]
pub(super) struct RoomState {
    /// When it was issued.
    pub(super) issued: Tick,
    /// The room's last offset.
    pub(super) last: Option<Offset>,
    /// The partition in the same step.
    pub(super) partition: Arc<PartitionState>,
}

struct Finished {
    partition: Partition,
    rooms: Vec<Room>,
    change: Change,
}

enum Change {
    Added {
        epoch: Epoch,
        issued: Tick,
        result: Result<RoomsState, BrokerError>,
    },
    Removed(Result<(), BrokerError>),
}

/// Rooms in one call: enough to make a storm cheap, few enough to keep the server's other callers waiting briefly.
const ROOMS_PER_CALL: usize = 256;

/// The task that owns all routes.
pub(super) struct RouteKeeper {
    pub(super) broker: SharedBroker,
    pub(super) partitions: PartitionCount,
    pub(super) table: Arc<RouteTable>,
    pub(super) standing: Standing,
    pub(super) ticks: Ticks,
    pub(super) shards: Shards,
    pub(super) settings: HubSettings,
    pub(super) mutations: HubMutations,
    pub(super) metrics: HubMetrics,
    pub(super) health: HubHealth,
    pub(super) look_at_lives: Arc<Notify>,
}

type Calls = FuturesUnordered<BoxFuture<'static, Finished>>;

impl RouteKeeper {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut routes = Routes::default();
        let mut calls = Calls::new();
        let mut refresh = tokio::time::interval(self.settings.route_refresh);
        refresh.reset();
        loop {
            let changed = self.table.changed.notified();
            self.take_wishes(&mut routes).await;
            routes.end_lingering();
            let markers = routes.due_markers(&self.settings);
            if !markers.is_empty() {
                self.table.reassert(markers);
                continue;
            }
            self.start_calls(&mut routes.partitions, &calls);
            let wake = routes.next_wake();
            tokio::select! {
                biased;
                Some(finished) = calls.next() => self.finish(&mut routes, finished).await,
                () = changed => {}
                () = sleep_until(wake) => {}
                _ = refresh.tick() => self.table.reassert(self.partitions.partitions()),
            }
        }
    }

    async fn take_wishes(&self, routes: &mut Routes) {
        let Routes {
            partitions,
            lingering,
        } = routes;
        let Wishes { holds, reassert } = std::mem::take(&mut *self.table.wishes.lock());
        let view = self.standing.view();
        for ((room, shard), held) in holds {
            let partition = self.partitions.partition_of(&room);
            let routes = partitions.entry(partition).or_default();
            let bit = 1_u64 << shard;
            if !held {
                if let Some(route) = routes.rooms.get_mut(&room) {
                    route.holders &= !bit;
                    if route.holders == 0 {
                        let until = Instant::now() + self.settings.linger;
                        route.lingers_until = Some(until);
                        lingering.push_back((until, partition, room));
                    }
                }
                continue;
            }
            let route = routes.rooms.entry(room.clone()).or_default();
            route.holders |= bit;
            route.informed |= bit;
            route.lingers_until = None;
            *self.table.held.write().entry(room.clone()).or_insert(0) |= bit;
            let epoch = view.epoch(partition);
            if route.confirmed == Some(epoch) {
                let routed = || Answer::Routed {
                    room: room.clone(),
                    epoch,
                    state: None,
                };
                self.shards.answer_all(bit, routed).await;
            } else {
                routes.to_add.insert(room);
            }
        }
        for partition in reassert {
            let Some(routes) = partitions.get_mut(&partition) else {
                continue;
            };
            let held = routes
                .rooms
                .iter()
                .filter(|(_, route)| route.confirmed.is_some() || route.holders != 0);
            let held: Vec<Room> = held.map(|(room, _)| room.clone()).collect();
            self.metrics.routes_reasserted.inc_by(held.len() as u64);
            routes.to_add.extend(held);
        }
    }

    fn start_calls(&self, partitions: &mut BTreeMap<Partition, PartitionRoutes>, calls: &Calls) {
        let view = self.standing.view();
        let now = Instant::now();
        for (partition, routes) in partitions.iter_mut() {
            if routes.busy || routes.not_before.is_some_and(|until| until > now) {
                continue;
            }
            routes.not_before = None;
            let (broker, partition) = (Arc::clone(&self.broker), *partition);
            let incarnation = view.incarnation.clone();
            // A join never waits for removals.
            if !routes.to_add.is_empty() {
                let rooms = take_some(&mut routes.to_add);
                let (epoch, issued) = (view.epoch(partition), self.ticks.issue());
                calls.push(Box::pin(async move {
                    let result = Rooms::add_routes(&*broker, partition, &rooms, &incarnation).await;
                    Finished {
                        partition,
                        rooms,
                        change: Change::Added {
                            epoch,
                            issued,
                            result,
                        },
                    }
                }));
                routes.busy = true;
                continue;
            }
            let mut rooms = take_some(&mut routes.to_remove);
            rooms.retain(|room| routes.rooms.get(room).is_some_and(|route| route.holders == 0));
            if rooms.is_empty() {
                continue;
            }
            for room in &rooms {
                if let Some(route) = routes.rooms.get_mut(room) {
                    route.confirmed = None;
                }
            }
            calls.push(Box::pin(async move {
                let result = Rooms::remove_routes(&*broker, partition, &rooms, &incarnation).await;
                Finished {
                    partition,
                    rooms,
                    change: Change::Removed(result),
                }
            }));
            routes.busy = true;
        }
    }

    async fn finish(&self, routes: &mut Routes, finished: Finished) {
        let Finished {
            partition,
            rooms,
            change,
        } = finished;
        let Routes {
            partitions,
            lingering,
        } = routes;
        let Some(routes) = partitions.get_mut(&partition) else {
            return;
        };
        routes.busy = false;
        match change {
            Change::Added {
                epoch,
                issued,
                result: Ok(state),
            } => {
                let unheld = self.added(routes, partition, rooms, epoch, issued, state).await;
                lingering.extend(unheld);
            }
            Change::Added {
                result: Err(error), ..
            } => {
                self.failed(routes, &error);
                routes.to_add.extend(rooms);
            }
            Change::Removed(Ok(())) => self.removed(routes, rooms).await,
            Change::Removed(Err(error)) => {
                self.failed(routes, &error);
                routes.to_remove.extend(rooms);
            }
        }
    }

    fn failed(&self, routes: &mut PartitionRoutes, error: &BrokerError) {
        tracing::debug!(%error, "changing routes failed; trying again");
        self.metrics
            .broker_errors
            .with_label_values(&[error.kind()])
            .inc();
        routes.not_before = Some(Instant::now() + self.settings.retry);
    }

    async fn added(
        &self,
        routes: &mut PartitionRoutes,
        partition: Partition,
        rooms: Vec<Room>,
        epoch: Epoch,
        issued: Tick,
        state: RoomsState,
    ) -> Vec<(Instant, Partition, Room)> {
        let mut unheld = Vec::new();
        let view = self.standing.view();
        if view.life(partition) != Some(&state.partition.life) {
            self.health.identity_differs(Source::Partition(partition));
            self.look_at_lives.notify_one();
            routes.not_before = Some(Instant::now() + self.settings.retry);
            routes.to_add.extend(rooms);
            return unheld;
        }
        self.health.identity_fits(Source::Partition(partition));
        if view.epoch(partition) != epoch {
            routes.to_add.extend(rooms);
            return unheld;
        }
        let is_ahead = state.partition.doubtful_upto > state.partition.handled;
        let marker = || routes.marker.unwrap_or_else(|| MarkerAhead::seen(&self.settings));
        routes.marker = is_ahead.then(marker);
        let partition_state = Arc::new(state.partition);
        for (place, room) in rooms.into_iter().enumerate() {
            let Some(route) = routes.rooms.get_mut(&room) else {
                continue;
            };
            let again = route.confirmed.is_some();
            route.confirmed = Some(epoch);
            if route.holders == 0 && route.lingers_until.is_none() {
                // Its members went while the route was on its way.
                let until = Instant::now() + self.settings.linger;
                route.lingers_until = Some(until);
                unheld.push((until, partition, room.clone()));
            }
            let last = state.last.get(place).copied().flatten();
            let state = RoomState {
                issued,
                last,
                partition: Arc::clone(&partition_state),
            };
            let state = (!(again && self.mutations.reassert_without_catch_up)).then_some(state);
            let routed = || Answer::Routed {
                room: room.clone(),
                epoch,
                state: state.clone(),
            };
            self.shards.answer_all(route.informed, routed).await;
        }
        unheld
    }

    async fn removed(&self, routes: &mut PartitionRoutes, rooms: Vec<Room>) {
        for room in rooms {
            let Some(route) = routes.rooms.get(&room) else {
                continue;
            };
            let (informed, held) = (route.informed, route.holders != 0);
            if held {
                routes.to_add.insert(room);
                continue;
            }
            routes.rooms.swap_remove(&room);
            routes.to_add.swap_remove(&room);
            self.table.held.write().remove(&room);
            self.shards
                .answer_all(informed, || Answer::Forget { room: room.clone() })
                .await;
        }
    }
}

fn take_some(rooms: &mut IndexSet<Room>) -> Vec<Room> {
    let count = rooms.len().min(ROOMS_PER_CALL);
    rooms.drain(..count).collect()
}

/// How long a failed change of routes waits before it is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(100);
