//! Sees failovers: looks at the servers each second, and at once when an answer does not fit what is known.
//!
//! After a failover all rooms of the server's partitions are joined again, and once more later.

use std::{sync::Arc, time::Duration};

use carillon_broker::Health;
use carillon_model::{Partition, PartitionCount};
use indexmap::IndexSet;
use tokio::{sync::Notify, time::Instant};

use super::{
    intervals::every, presence::PresenceDesk, registrar::Registrar, route_table::RouteTable,
    standing::Standing, wake::sleep_until,
};

/// The task.
pub(super) struct FailoverTask {
    pub(super) registrar: Registrar,
    pub(super) partitions: PartitionCount,
    pub(super) standing: Standing,
    pub(super) routes: Arc<RouteTable>,
    pub(super) presence: Arc<PresenceDesk>,
    pub(super) look_at_lives: Arc<Notify>,
}

/// Partitions that are joined once more, and when.
type SecondLook = Option<(Instant, IndexSet<Partition>)>;

impl FailoverTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut look = every(self.registrar.settings.look_at_lives);
        let mut second_look: SecondLook = None;
        loop {
            let second_at = second_look.as_ref().map(|(at, _)| *at);
            tokio::select! {
                biased;
                // The rarer, the earlier: on a slow server a look takes longer than its interval.
                () = sleep_until(second_at) => {
                    if let Some((_, partitions)) = second_look.take() {
                        // What an old primary still took in its last moments.
                        self.reassert(partitions);
                    }
                }
                _ = look.tick() => self.look(&mut second_look).await,
                () = self.look_at_lives.notified() => {
                    self.look(&mut second_look).await;
                    look.reset();
                    // The task that woke us reads again at once; looking more often finds nothing new.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Everything this gateway keeps in these partitions is written again.
    fn reassert(&self, partitions: IndexSet<Partition>) {
        self.presence.reassert(partitions.iter().copied());
        self.routes.reassert(partitions);
    }

    async fn look(&self, second_look: &mut SecondLook) {
        let incarnation = self.standing.view().incarnation.clone();
        let Registrar {
            broker,
            settings,
            metrics,
            health,
            ..
        } = &self.registrar;
        let lives = match Health::lives(&**broker, Some(&incarnation)).await {
            Ok(lives) => lives,
            Err(error) => return self.registrar.failed(&error),
        };
        match &lives.problem {
            None => health.redis_answered(),
            Some(error) => self.registrar.failed(error),
        }
        let changes = self.standing.observe(&lives);
        let changed: IndexSet<Partition> = if changes.channel {
            self.partitions.partitions().collect()
        } else {
            changes.partitions.into_iter().collect()
        };
        if changed.is_empty() {
            return;
        }
        tracing::warn!(
            partitions = changed.len(),
            channel = changes.channel,
            "a server failed over or restarted"
        );
        metrics.failovers.inc();
        self.reassert(changed.clone());
        let again = Instant::now() + settings.second_look;
        let (at, partitions) = second_look.get_or_insert_with(|| (again, IndexSet::new()));
        *at = again;
        partitions.extend(changed);
    }
}
