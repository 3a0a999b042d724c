use async_trait::async_trait;
use carillon_model::{Offset, Partition};

use crate::{
    MemoryBroker, Result,
    losses::{GapAppend, GapOutcome, GapQueue, Lineage},
    memory::ops,
};

impl MemoryBroker {
    /// Marks what a replaced server lost. Nothing here fails or takes time.
    pub(in crate::memory) async fn settle_losses(&self) {
        let losses = &self.inner.losses;
        for partition in losses.unsettled() {
            if let Err(error) = losses.settle(partition, self).await {
                tracing::debug!(%partition, %error, "gaps could not be marked; trying again with the next look");
            }
        }
    }
}

#[async_trait]
impl GapQueue for MemoryBroker {
    async fn lineage(&self, partition: Partition, known: Offset) -> Result<Lineage> {
        let server = self.of_partition(partition);
        Ok(server.write(|state, now| ops::gaps::lineage(state, now, partition, known)))
    }

    async fn append_gaps(&self, append: GapAppend) -> Result<GapOutcome> {
        let server = self.of_partition(append.partition);
        let outcome = server.write(|state, now| ops::gaps::append_gaps(state, now, &append));
        server.wake.queue(append.partition);
        Ok(outcome)
    }
}
