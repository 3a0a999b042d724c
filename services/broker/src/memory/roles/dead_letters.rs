use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::{Offset, Partition};

use super::consume_budget;
use crate::{
    DeadLetter, DeadLetterId, DeadLetterSource, DeadLetters, Fenced, FencingToken, Life, MemoryBroker,
    Result, memory::ops::dead_letters,
};

#[async_trait]
impl DeadLetters for MemoryBroker {
    async fn bury_head(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        head: Offset,
        reason: &str,
    ) -> Result<Fenced<()>> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| dead_letters::bury_head(state, now, partition, token, life, head, reason)))
    }

    async fn bury(
        &self,
        partition: Partition,
        source: DeadLetterSource,
        entry: Bytes,
        reason: &str,
    ) -> Result<()> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| dead_letters::bury(state, now, partition, &source, entry, reason))
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .read(|state, now| dead_letters::dead_letters(state, now, partition, after, limit)))
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        consume_budget().await;
        Ok(self
            .of_partition(id.partition)
            .read(|state, now| dead_letters::dead_letter(state, now, id)))
    }

    async fn drop_dead_letters(&self, partition: Partition, letters: &[Offset]) -> Result<u64> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| dead_letters::drop_dead_letters(state, now, partition, letters)))
    }

    async fn cap_dead_letters(&self, partition: Partition, keep: u64) -> Result<u64> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| dead_letters::cap_dead_letters(state, now, partition, keep)))
    }
}
