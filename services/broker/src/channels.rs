//! The channels of gateways: one bounded stream per incarnation.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Incarnation, Life, Result};

/// Appends to the channels of gateways and reads one's own.
#[async_trait]
pub trait Channels: Send + Sync {
    /// Appends an encoded `carillon.wire.v1.ChannelEntry`. Over `limit` bytes of unread entries the channel is
    /// emptied and holds one overrun mark instead.
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend>;

    /// Reads one's own channel, from its beginning, with a connection of its own.
    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>>;
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelAppend {
    /// It is in the channel.
    Kept,
    /// The channel was full; it holds an overrun mark now.
    Overrun,
    /// Nobody reads this channel any more: the incarnation is dead. Nothing was written.
    Dead,
}

/// Reads a gateway's channel.
#[async_trait]
pub trait ChannelReader: Send {
    /// Waits up to `block` for entries. What the read before returned is trimmed: whoever reads on has taken it over.
    async fn read(&mut self, limit: usize, block: Duration) -> Result<ChannelRead>;
}

/// What came through a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRead {
    /// In order; none if the time ran out.
    pub items: Vec<ChannelItem>,
    /// The life they were read from.
    pub life: Life,
    /// The channel's last id was below the reader's position after a reconnect: entries were lost with a server.
    /// The reader starts at its beginning again.
    pub lost: bool,
}

/// One entry of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelItem {
    /// An encoded `carillon.wire.v1.ChannelEntry`.
    Entry(Bytes),
    /// Entries before this were thrown away.
    Overrun,
}
