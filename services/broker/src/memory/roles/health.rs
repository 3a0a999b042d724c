use async_trait::async_trait;

use super::consume_budget;
use crate::{Broker, Health, Incarnation, Lives, MemoryBroker, Pressure, Result};

#[async_trait]
impl Health for MemoryBroker {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        consume_budget().await;
        let life_of = |server: usize| self.read(server, |state, _| state.life.clone());
        for partition in self.partitions().partitions() {
            let life = life_of(self.server_of(partition));
            self.inner.losses.observed(partition, &life, None);
        }
        self.settle_losses().await;
        Ok(Lives {
            partitions: self
                .partitions()
                .partitions()
                .map(|partition| life_of(self.server_of(partition)))
                .collect(),
            channel: channel.map(|gateway| life_of(self.server_of_incarnation(gateway))),
            problem: None,
        })
    }

    #[allow(clippy::cast_precision_loss)] // a share for people and thresholds
    async fn pressure(&self) -> Result<Pressure> {
        consume_budget().await;
        let fullest = (0..self.servers())
            .map(|server| {
                self.read(server, |state, _| {
                    state.used() as f64 / state.memory_limit.max(1) as f64
                })
            })
            .fold(0.0, f64::max);
        Ok(Pressure {
            memory: fullest,
            complete: true,
        })
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}
