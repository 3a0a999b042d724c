use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Offset, Partition};

use super::consume_budget;
use crate::{
    Append, AppendOutcome, Fenced, FencingToken, HeadRead, Incarnation, Life, MemoryBroker, Queue, QueueRead,
    QueueReader, Record, RecordOutcome, Result,
    memory::{ops, wake},
};

#[async_trait]
impl Queue for MemoryBroker {
    async fn append(&self, append: Append) -> Result<AppendOutcome> {
        consume_budget().await;
        let server = self.of_partition(append.partition);
        let (outcome, life) = server.write(|state, now| {
            let outcome = ops::append::append(state, now, &append);
            outcome.map(|outcome| (outcome, state.life.clone()))
        })?;
        let losses = &self.inner.losses;
        let written = (&life, 0);
        if losses
            .confirm(append.partition, written, &append.messages, &outcome, self)
            .await?
        {
            self.settle_losses().await;
        }
        if matches!(outcome, AppendOutcome::Appended(_)) {
            server.wake.queue(append.partition);
        }
        Ok(outcome)
    }

    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        Ok(Box::new(MemoryQueueReader {
            broker: self.clone(),
            partition,
        }))
    }

    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        consume_budget().await;
        self.of_partition(record.partition)
            .write(|state, now| ops::record::record(state, now, &record))
    }

    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
        parked: &[Incarnation],
    ) -> Result<Fenced<()>> {
        consume_budget().await;
        Ok(self.of_partition(partition).write(|state, now| {
            let trimmed = ops::queue::trim(state, now, partition, token, life, upto);
            if trimmed == Fenced::Done(()) {
                ops::queue::park(state, now, partition, parked);
            }
            trimmed
        }))
    }

    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| ops::queue::unpark(state, now, partition, token, life, gateways)))
    }

    async fn count_try(
        &self,
        partition: Partition,
        token: FencingToken,
        head: Offset,
    ) -> Result<Fenced<u32>> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| ops::queue::count_try(state, now, partition, token, head)))
    }

    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()> {
        consume_budget().await;
        self.of_partition(partition)
            .write(|state, now| ops::queue::take_back_try(state, now, partition, token));
        Ok(())
    }

    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()> {
        consume_budget().await;
        self.inner.losses.doubt(partition);
        self.settle_losses().await;
        Ok(())
    }
}

struct MemoryQueueReader {
    broker: MemoryBroker,
    partition: Partition,
}

#[async_trait]
impl QueueReader for MemoryQueueReader {
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead> {
        consume_budget().await;
        Ok(self
            .broker
            .of_partition(self.partition)
            .read(|state, now| ops::queue::read_head(state, now, self.partition, token, limit)))
    }

    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead> {
        consume_budget().await;
        let server = self.broker.of_partition(self.partition);
        let read =
            || server.read(|state, now| ops::queue::read_after(state, now, self.partition, after, limit));
        let came = wake::until(
            block,
            || server.wake.of_queue(self.partition),
            || Some(read()).filter(|read| !read.items.is_empty()),
        );
        Ok(came.await.unwrap_or_else(read))
    }
}
