//! An owner parks channels, and tells their gateways when they answer again.

use std::sync::Arc;

use bytes::Bytes;
use carillon_broker::{Fenced, Incarnation};
use futures::future::join_all;
use tracing::{info, warn};

use super::{Interruption, Owner, Stand};

impl Owner {
    /// Tells the gateways whose channels answer again that they missed something, and marks them no more. Between two
    /// batches, so that nothing is withheld from them after they were told.
    pub(super) async fn unpark(&mut self, stand: &Stand) -> Result<(), Interruption> {
        if self.parking.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let answering = self.parking.answering(&shared);
        if answering.is_empty() {
            return Ok(());
        }
        let telling = answering.into_iter().map(|(gateway, lives)| {
            let shared = Arc::clone(&shared);
            async move {
                // Nobody reads the channel of a dead one.
                let told = !lives || {
                    let overrun = shared.broker.append_channel(&gateway, Bytes::new(), 0);
                    let patience = shared.settings.channel_patience;
                    let told = shared.call_within(patience, "append_channel", overrun).await;
                    shared
                        .metrics
                        .channel_append(told.as_ref().map(|outcome| *outcome).map_err(|_| ()));
                    told.is_ok()
                };
                (gateway, told)
            }
        });
        let mut told = Vec::new();
        for (gateway, done) in join_all(telling).await {
            if done {
                told.push(gateway);
            } else {
                self.parking.is_silent_again(gateway);
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        if !shared.mutations.park_in_memory {
            let unpark = shared
                .broker
                .unpark(self.partition, self.token, &stand.life, &told);
            if shared.call("unpark", unpark).await? == Fenced::Lost {
                return Err(Interruption::Lost);
            }
        }
        for gateway in told {
            info!(partition = %self.partition, %gateway, "a parked channel answers again; its gateway catches up");
            self.parking.release(&gateway);
        }
        Ok(())
    }

    /// These channels did not get a batch that is acknowledged now.
    pub(super) fn park(&mut self, gateways: Vec<Incarnation>) {
        for gateway in gateways {
            if !self.parking.holds(&gateway) {
                warn!(partition = %self.partition, %gateway, "a channel does not answer; the partition goes on without it");
            }
            self.parking.park(&self.shared, gateway);
        }
    }
}
