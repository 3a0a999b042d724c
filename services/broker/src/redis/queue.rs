//! Queues: append, read, trim.

use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Offset, Partition};
use redis::{Value, cmd};

use super::{RedisBroker, call::Call, own_lane::OwnLane, reply, scripts};
use crate::{
    Append, AppendOutcome, Appended, BrokerError, Fenced, FencingToken, HeadRead, Incarnation, LeaseName,
    Life, Queue, QueueItem, QueueRead, QueueReader, Record, RecordOutcome, Result,
};

#[async_trait]
impl Queue for RedisBroker {
    async fn append(&self, append: Append) -> Result<AppendOutcome> {
        let (keys, partition) = (self.keys(), append.partition);
        let mut names = vec![keys.queue(partition), keys.run(partition)];
        let mut places = Vec::new();
        for message in &append.messages {
            places.push(match &message.idempotency {
                None => 0,
                Some(key) => {
                    names.push(keys.idempotency(partition, &key.producer, &key.key));
                    names.len()
                }
            });
        }
        let mut call = Call::script(&scripts::APPEND, &names)
            .arg(append.known.to_string())
            .arg(append.queue_limit)
            .arg(milliseconds(append.keep_keys))
            .arg(append.messages.len());
        for (message, place) in append.messages.iter().zip(places) {
            let fingerprint = message
                .idempotency
                .as_ref()
                .map(|key| hexadecimal(&key.fingerprint))
                .unwrap_or_default();
            call = call.arg(place).arg(fingerprint).arg(message.entries.len());
            for (_, entry) in &message.entries {
                call = call.arg(&entry[..]);
            }
        }
        let (outcome, written) = appended(self.call(call).await?)?;
        if let Some((life, position)) = written {
            let losses = &self.shared.losses;
            let written = (&life, position);
            if losses
                .confirm(partition, written, &append.messages, &outcome, self)
                .await?
            {
                self.settle_losses();
            }
        }
        Ok(outcome)
    }

    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        Ok(Box::new(RedisQueueReader {
            broker: self.clone(),
            partition,
            lane: OwnLane::default(),
        }))
    }

    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        self.record_batch(record).await
    }

    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
        parked: &[Incarnation],
    ) -> Result<Fenced<()>> {
        let keys = self.keys();
        let names = [
            keys.lease(&LeaseName::Partition(partition)),
            keys.queue(partition),
            keys.tries(partition),
            keys.park(partition),
        ];
        let mut call = Call::script(&scripts::TRIM, &names)
            .arg(token.0)
            .arg(self.topology().identities().present(life))
            .arg(upto.just_above().to_string());
        for gateway in parked {
            call = call.arg(gateway.as_str());
        }
        Ok(fenced(reply::number(self.call(call).await?)?))
    }

    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>> {
        let keys = self.keys();
        let names = [keys.lease(&LeaseName::Partition(partition)), keys.park(partition)];
        let mut call = Call::script(&scripts::UNPARK, &names)
            .arg(token.0)
            .arg(self.topology().identities().present(life));
        for gateway in gateways {
            call = call.arg(gateway.as_str());
        }
        Ok(fenced(reply::number(self.call(call).await?)?))
    }

    async fn count_try(
        &self,
        partition: Partition,
        token: FencingToken,
        head: Offset,
    ) -> Result<Fenced<u32>> {
        let keys = self.keys();
        let names = [
            keys.lease(&LeaseName::Partition(partition)),
            keys.tries(partition),
        ];
        let call = Call::script(&scripts::COUNT_TRY, &names)
            .arg(token.0)
            .arg(head.to_string());
        let tries = reply::number(self.call(call).await?)?;
        Ok(u32::try_from(tries).map_or(Fenced::Lost, Fenced::Done))
    }

    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()> {
        let call = Call::script(&scripts::TAKE_BACK_TRY, &[self.keys().tries(partition)]).arg(token.0);
        self.call(call).await.map(drop)
    }

    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()> {
        self.shared.losses.doubt(partition);
        self.settle_losses();
        Ok(())
    }
}

/// What a fenced script answers: 0 for "not yours".
pub(super) fn fenced(done: i64) -> Fenced<()> {
    if done == 0 { Fenced::Lost } else { Fenced::Done(()) }
}

/// What an append answered; where it wrote, by whom and at which replication offset.
fn appended(answer: Value) -> Result<(AppendOutcome, Option<(Life, u64)>)> {
    let mut parts = reply::array(answer)?.into_iter();
    let kind = parts.next().map(reply::text).transpose()?.unwrap_or_default();
    match kind.as_str() {
        "full" => {
            let length = parts.next().map(reply::unsigned).transpose()?.unwrap_or_default();
            Ok((AppendOutcome::QueueFull { length }, None))
        }
        "reused" => {
            let message = parts.next().map(reply::unsigned).transpose()?.unwrap_or_default();
            let message = usize::try_from(message).unwrap_or(usize::MAX);
            Ok((AppendOutcome::KeyReused { message }, None))
        }
        "appended" => {
            let life = parts.next().map(reply::text).transpose()?.unwrap_or_default();
            let position = parts.next().map(reply::unsigned).transpose()?.unwrap_or_default();
            let placed = parts.map(|message| {
                let mut ids = reply::array(message)?.into_iter();
                let repeated = ids.next().map(reply::number).transpose()? == Some(1);
                Ok(Appended {
                    offsets: ids.map(reply::offset).collect::<Result<_>>()?,
                    repeated,
                })
            });
            let outcome = AppendOutcome::Appended(placed.collect::<Result<_>>()?);
            Ok((outcome, Some((Life(life.into()), position))))
        }
        other => Err(BrokerError::Corrupt(format!("an append answered `{other}`"))),
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
            text
        })
}

struct RedisQueueReader {
    broker: RedisBroker,
    partition: Partition,
    lane: OwnLane,
}

#[async_trait]
impl QueueReader for RedisQueueReader {
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead> {
        let keys = self.broker.keys();
        let names = [
            keys.queue(self.partition),
            keys.run(self.partition),
            keys.lease(&LeaseName::Partition(self.partition)),
            keys.park(self.partition),
        ];
        let call = Call::script(&scripts::READ_HEAD, &names).arg(token.0).arg(limit);
        let [entries, stand, owned, parked] = reply::tuple(self.broker.call(call).await?)?;
        let state = self.broker.partition_state(stand).await?;
        Ok(HeadRead {
            items: items(reply::array(entries)?)?,
            life: state.life,
            handled: state.handled,
            owned: reply::number(owned)? == 1,
            parked: reply::incarnations(parked)?,
        })
    }

    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead> {
        let key = self.broker.keys().queue(self.partition);
        let mut commands = redis::pipe();
        commands.add_command(xread(&key, after, limit, block));
        let (values, life) = self.lane.send(&self.broker, &key, &commands, block).await?;
        let entries = values
            .into_iter()
            .next_back()
            .map(reply::read)
            .transpose()?
            .unwrap_or_default();
        Ok(QueueRead {
            items: items(entries)?,
            life,
        })
    }
}

pub(super) fn xread(key: &str, after: Offset, limit: usize, block: Duration) -> redis::Cmd {
    let mut command = cmd("XREAD");
    command.arg("COUNT").arg(limit);
    if !block.is_zero() {
        command.arg("BLOCK").arg(milliseconds(block));
    }
    command.arg("STREAMS").arg(key).arg(after.to_string());
    command
}

fn items(entries: Vec<Value>) -> Result<Vec<QueueItem>> {
    let item = |value| {
        let (offset, fields) = reply::entry(value)?;
        Ok(QueueItem {
            offset,
            entry: reply::only_field(fields),
        })
    };
    entries.into_iter().map(item).collect()
}
