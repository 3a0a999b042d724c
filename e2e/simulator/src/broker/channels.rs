//! The gateways' channels.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    BrokerError, ChannelAppend, ChannelRead, ChannelReader, Channels, Incarnation, Result, memory::ops,
};
use carillon_model::Offset;
use tokio::time::Instant;

use super::SimulatedBroker;
use crate::{network::Step, own_lane::OwnLane};

#[async_trait]
impl Channels for SimulatedBroker {
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend> {
        let server = self.of_incarnation(gateway);
        self.0.pass(Step::AppendChannel).await;
        self.0.network.heard_of(gateway).await;
        let outcome = self
            .0
            .write(server, |state, now| {
                ops::channels::append_channel(state, now, gateway, entry, limit)
            })
            .await??;
        if outcome == ChannelAppend::Dead && self.lives(gateway).await? {
            return Err(BrokerError::Unavailable(
                "it lives, by another primary".to_owned(),
            ));
        }
        Ok(outcome)
    }

    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>> {
        Ok(Box::new(SimulatedChannelReader {
            broker: self.clone(),
            gateway: gateway.clone(),
            position: Offset::ZERO,
            lane: OwnLane::default(),
        }))
    }
}

struct SimulatedChannelReader {
    broker: SimulatedBroker,
    gateway: Incarnation,
    position: Offset,
    lane: OwnLane,
}

#[async_trait]
impl ChannelReader for SimulatedChannelReader {
    async fn read(&mut self, limit: usize, block: Duration) -> Result<ChannelRead> {
        let server = self.broker.of_incarnation(&self.gateway);
        let until = Instant::now() + block;
        loop {
            self.broker.0.pass(Step::ReadChannel).await;
            let (gateway, position) = (&self.gateway, self.position);
            let read = self.broker.0.read_on(&mut self.lane, server, |state, _| {
                let unread = ops::channels::read_channel(state, gateway, position, limit);
                (unread, ops::channels::has_read_entries(state, gateway, position))
            });
            let ((mut read, reached), trim) = read.await?;
            if trim && !read.lost {
                let trimmed = self.broker.0.write(server, |state, _| {
                    ops::channels::trim_channel(state, gateway, position);
                });
                trimmed.await?;
            }
            if read.lost || !read.items.is_empty() || !self.broker.wait_for_write(server, until).await {
                self.position = reached;
                read.life = self.broker.0.resolve(server, read.life).await;
                return Ok(read);
            }
        }
    }
}
