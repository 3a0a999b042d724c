//! The tasks of a hub, and what they share.

use std::sync::Arc;

use carillon_model::policy::Policy;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    Hub, HubMutations,
    channel::ChannelTask,
    failovers::FailoverTask,
    history::{HistoryReader, HistoryRequests},
    newest::{NewestReader, NewestRequests},
    presence::{PresenceDesk, PresenceKeeper, PresenceWatcher},
    rebalance::{Census, RebalanceTask},
    registrar::Registrar,
    renewal::RenewalTask,
    report::ReportTask,
    route_table::RouteTable,
    routes::RouteKeeper,
    shard::{Shard, ShardInbox, Surroundings},
    standing::Standing,
    ticks::Ticks,
};

impl Hub {
    /// Registers, then runs until one of the tasks ends, which none ever should.
    pub(super) async fn run(
        self,
        registrar: Registrar,
        inboxes: Vec<ShardInbox>,
        policy: watch::Receiver<Arc<Policy>>,
        mutations: HubMutations,
    ) {
        let inner = &self.0;
        let (incarnation, lives) = registrar.register_patiently(None).await;
        let standing = Standing::new(incarnation, &lives);
        inner.standing.send_replace(Some(standing.clone()));
        let partitions = inner.broker.partitions();
        let routes = Arc::new(RouteTable::default());
        let requests = Arc::new(HistoryRequests::default());
        let newest = Arc::new(NewestRequests::new(inner.settings.newest_waiting));
        let look_at_lives = Arc::new(Notify::new());
        let ticks = Ticks::default();
        let census = Arc::new(Census::default());
        let presence = Arc::new(PresenceDesk::new(partitions, &inner.settings));
        let around = Surroundings {
            partitions,
            policy,
            routes: Arc::clone(&routes),
            memory_gate: inner.memory_gate.clone(),
            outboxes: Arc::clone(&inner.outboxes),
            presence: Arc::clone(&presence),
            history: Arc::clone(&requests),
            newest: Arc::clone(&newest),
            standing: standing.clone(),
            ticks: ticks.clone(),
            settings: inner.settings.clone(),
            mutations,
            metrics: inner.metrics.clone(),
            look_at_lives: Arc::clone(&look_at_lives),
        };
        let mut tasks = JoinSet::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            tasks.spawn(Shard::new(index, around.clone()).run(inbox));
        }
        tasks.spawn(
            RouteKeeper {
                broker: Arc::clone(&inner.broker),
                partitions,
                table: Arc::clone(&routes),
                standing: standing.clone(),
                ticks: ticks.clone(),
                shards: inner.shards.clone(),
                settings: inner.settings.clone(),
                mutations,
                metrics: inner.metrics.clone(),
                health: inner.health.clone(),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            HistoryReader {
                broker: Arc::clone(&inner.broker),
                partitions,
                requests,
                standing: standing.clone(),
                ticks,
                shards: inner.shards.clone(),
                settings: inner.settings.clone(),
                metrics: inner.metrics.clone(),
                health: inner.health.clone(),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            NewestReader {
                broker: Arc::clone(&inner.broker),
                partitions,
                requests: newest,
                standing: standing.clone(),
                shards: inner.shards.clone(),
                settings: inner.settings.clone(),
                metrics: inner.metrics.clone(),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            ChannelTask {
                broker: Arc::clone(&inner.broker),
                partitions,
                standing: standing.clone(),
                shards: inner.shards.clone(),
                routes: Arc::clone(&routes),
                settings: inner.settings.clone(),
                metrics: inner.metrics.clone(),
                health: inner.health.clone(),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            RenewalTask {
                registrar: registrar.clone(),
                partitions,
                standing: standing.clone(),
                routes: Arc::clone(&routes),
                presence: Arc::clone(&presence),
            }
            .run(),
        );
        tasks.spawn(
            ReportTask {
                registrar: registrar.clone(),
                standing: standing.clone(),
                routes: Arc::clone(&routes),
                census: Arc::clone(&census),
            }
            .run(),
        );
        tasks.spawn(
            FailoverTask {
                registrar,
                partitions,
                standing: standing.clone(),
                routes,
                presence: Arc::clone(&presence),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            RebalanceTask {
                census,
                policy: inner.desk.policy.clone(),
                shards: inner.shards.clone(),
                metrics: inner.metrics.clone(),
                draining: Arc::clone(&inner.draining),
            }
            .run(),
        );
        tasks.spawn(
            PresenceKeeper {
                broker: Arc::clone(&inner.broker),
                memory_gate: inner.memory_gate.clone(),
                desk: Arc::clone(&presence),
                standing: standing.clone(),
                settings: inner.settings.clone(),
                metrics: inner.metrics.clone(),
                look_at_lives: Arc::clone(&look_at_lives),
            }
            .run(),
        );
        tasks.spawn(
            PresenceWatcher {
                broker: Arc::clone(&inner.broker),
                desk: presence,
                standing,
                settings: inner.settings.clone(),
                metrics: inner.metrics.clone(),
                look_at_lives,
            }
            .run(),
        );
        // None of them ends by itself; one that panicked has taken its part of the gateway with it.
        let ended = tasks.join_next().await;
        tracing::error!(?ended, "a task of the hub ended; the gateway can't go on");
    }
}
