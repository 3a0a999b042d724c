use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::Offset;

use super::consume_budget;
use crate::{
    ChannelAppend, ChannelRead, ChannelReader, Channels, Incarnation, MemoryBroker, Result,
    memory::{ops, wake},
};

#[async_trait]
impl Channels for MemoryBroker {
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend> {
        consume_budget().await;
        let server = self.of_incarnation(gateway);
        let outcome =
            server.write(|state, now| ops::channels::append_channel(state, now, gateway, entry, limit))?;
        server.wake.channels();
        Ok(outcome)
    }

    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>> {
        Ok(Box::new(MemoryChannelReader {
            broker: self.clone(),
            gateway: gateway.clone(),
            position: Offset::ZERO,
        }))
    }
}

struct MemoryChannelReader {
    broker: MemoryBroker,
    gateway: Incarnation,
    position: Offset,
}

#[async_trait]
impl ChannelReader for MemoryChannelReader {
    async fn read(&mut self, limit: usize, block: Duration) -> Result<ChannelRead> {
        consume_budget().await;
        let server = self.broker.of_incarnation(&self.gateway);
        let gateway = &self.gateway;
        let position = &mut self.position;
        // Whoever reads on has taken over what came before.
        if server.read(|state, _| ops::channels::has_read_entries(state, gateway, *position)) {
            server.write(|state, _| ops::channels::trim_channel(state, gateway, *position));
        }
        let mut read = || {
            let (read, reached) =
                server.read(|state, _| ops::channels::read_channel(state, gateway, *position, limit));
            *position = reached;
            read
        };
        let came = wake::until(
            block,
            || server.wake.of_channels(),
            || Some(read()).filter(|read| read.lost || !read.items.is_empty()),
        );
        if let Some(came) = came.await {
            return Ok(came);
        }
        Ok(read())
    }
}
