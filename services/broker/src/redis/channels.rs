//! Channels of gateways.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::Offset;
use redis::cmd;

use super::{RedisBroker, call::Call, own_lane::OwnLane, queue::xread, reply, scripts};
use crate::{
    BrokerError, ChannelAppend, ChannelItem, ChannelRead, ChannelReader, Channels, Incarnation, Life, Result,
};

#[async_trait]
impl Channels for RedisBroker {
    async fn append_channel(&self, gateway: &Incarnation, entry: Bytes, limit: u64) -> Result<ChannelAppend> {
        let keys = self.keys();
        let names = [
            keys.alive(gateway),
            keys.channel(gateway),
            keys.channel_account(gateway),
        ];
        let call = Call::script(&scripts::APPEND_CHANNEL, &names)
            .arg(&entry[..])
            .arg(limit);
        match reply::text(self.call(call).await?)?.as_str() {
            "kept" => Ok(ChannelAppend::Kept),
            "overrun" => Ok(ChannelAppend::Overrun),
            "dead" => match self.alive([gateway]).await?[..] {
                [true] => Err(BrokerError::Unavailable(format!(
                    "{gateway} lives, by another primary than the one that was asked"
                ))),
                _ => Ok(ChannelAppend::Dead),
            },
            other => Err(BrokerError::Corrupt(format!(
                "an append to a channel answered `{other}`"
            ))),
        }
    }

    async fn open_channel(&self, gateway: &Incarnation) -> Result<Box<dyn ChannelReader>> {
        Ok(Box::new(RedisChannelReader {
            broker: self.clone(),
            gateway: gateway.clone(),
            position: 0,
            trimmed: 0,
            lane: OwnLane::default(),
            life: None,
        }))
    }
}

struct RedisChannelReader {
    broker: RedisBroker,
    gateway: Incarnation,
    /// The first half of the last id read: a running total of bytes.
    position: u64,
    trimmed: u64,
    lane: OwnLane,
    /// Whose data was read last.
    life: Option<Life>,
}

#[async_trait]
impl ChannelReader for RedisChannelReader {
    async fn read(&mut self, limit: usize, block: Duration) -> Result<ChannelRead> {
        let keys = self.broker.keys();
        let (channel, account) = (keys.channel(&self.gateway), keys.channel_account(&self.gateway));
        let mut lost = false;
        let mut commands = redis::pipe();
        if self.lane.is_broken(&self.broker, &channel) {
            // On a new connection: has this server the channel we know?
            let mut total = cmd("HGET");
            total.arg(&account).arg("total");
            commands.add_command(total);
            let (values, _) = self
                .lane
                .send(&self.broker, &channel, &commands, Duration::ZERO)
                .await?;
            let total = values
                .into_iter()
                .next()
                .map(reply::unsigned)
                .transpose()?
                .unwrap_or_default();
            lost = total < self.position;
            if lost {
                (self.position, self.trimmed) = (0, 0);
            }
            commands = redis::pipe();
        }
        if self.position > self.trimmed {
            // With its text: a pipeline can't wait for the answer that the script is not known.
            let mut trim = cmd("EVAL");
            trim.arg(&scripts::TRIM_CHANNEL.text)
                .arg(2)
                .arg(&channel)
                .arg(&account)
                .arg(self.position);
            commands.add_command(trim);
        }
        let block = if lost { Duration::ZERO } else { block };
        commands.add_command(xread(&channel, Offset::new(self.position, 0), limit, block));
        let (values, life) = self.lane.send(&self.broker, &channel, &commands, block).await?;
        self.trimmed = self.position;
        if self
            .life
            .replace(life.clone())
            .is_some_and(|before| before != life)
        {
            // Other data on a connection that stood: the next read asks again whether the channel is the one we know.
            self.lane = OwnLane::default();
        }
        let mut items = Vec::new();
        for entry in values
            .into_iter()
            .next_back()
            .map(reply::read)
            .transpose()?
            .unwrap_or_default()
        {
            let (id, fields) = reply::entry(entry)?;
            self.position = id.milliseconds;
            let overrun = matches!(fields.first(), Some(redis::Value::BulkString(name)) if name == b"o");
            items.push(if overrun {
                ChannelItem::Overrun
            } else {
                ChannelItem::Entry(reply::only_field(fields))
            });
        }
        Ok(ChannelRead { items, life, lost })
    }
}
