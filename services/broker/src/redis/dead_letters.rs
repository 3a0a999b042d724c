//! Dead letters.

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::{Offset, Partition};
use redis::Value;

use super::{RedisBroker, call::Call, queue::fenced, reply, scripts};
use crate::{
    BrokerError, DeadLetter, DeadLetterId, DeadLetterSource, DeadLetters, Fenced, FencingToken, LeaseName,
    Life, Result,
};

#[async_trait]
impl DeadLetters for RedisBroker {
    async fn bury_head(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        head: Offset,
        reason: &str,
    ) -> Result<Fenced<()>> {
        let keys = self.keys();
        let names = [
            keys.lease(&LeaseName::Partition(partition)),
            keys.queue(partition),
            keys.tries(partition),
            keys.letters(partition),
            keys.letter_sources(partition),
        ];
        let call = Call::script(&scripts::BURY_HEAD, &names)
            .arg(token.0)
            .arg(self.topology().identities().present(life))
            .arg(head.to_string())
            .arg(reason)
            .arg(source_text(&DeadLetterSource::Queue(head))?);
        Ok(fenced(reply::number(self.call(call).await?)?))
    }

    async fn bury(
        &self,
        partition: Partition,
        source: DeadLetterSource,
        entry: Bytes,
        reason: &str,
    ) -> Result<()> {
        let names = [
            self.keys().letters(partition),
            self.keys().letter_sources(partition),
        ];
        let call = Call::script(&scripts::BURY, &names)
            .arg(source_text(&source)?)
            .arg(reason)
            .arg(&entry[..]);
        self.call(call).await.map(drop)
    }

    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        let key = self.keys().letters(partition);
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let call = Call::command("XRANGE", &key)
            .arg(&key)
            .arg(from)
            .arg("+")
            .arg("COUNT")
            .arg(limit);
        reply::array(self.call(call).await?)?
            .into_iter()
            .map(|entry| letter(partition, entry))
            .collect()
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>> {
        let key = self.keys().letters(id.partition);
        let at = id.offset.to_string();
        let call = Call::command("XRANGE", &key).arg(&key).arg(&at).arg(&at);
        let found = reply::array(self.call(call).await?)?.into_iter().next();
        found.map(|entry| letter(id.partition, entry)).transpose()
    }

    async fn drop_dead_letters(&self, partition: Partition, letters: &[Offset]) -> Result<u64> {
        if letters.is_empty() {
            return Ok(0);
        }
        let names = [
            self.keys().letters(partition),
            self.keys().letter_sources(partition),
        ];
        let mut call = Call::script(&scripts::DROP_LETTERS, &names);
        for offset in letters {
            call = call.arg(offset.to_string());
        }
        reply::unsigned(self.call(call).await?)
    }

    async fn cap_dead_letters(&self, partition: Partition, keep: u64) -> Result<u64> {
        let names = [
            self.keys().letters(partition),
            self.keys().letter_sources(partition),
        ];
        reply::unsigned(
            self.call(Call::script(&scripts::CAP_LETTERS, &names).arg(keep))
                .await?,
        )
    }
}

fn source_text(source: &DeadLetterSource) -> Result<String> {
    serde_json::to_string(source).map_err(|error| BrokerError::Corrupt(error.to_string()))
}

fn letter(partition: Partition, entry: Value) -> Result<DeadLetter> {
    let (offset, fields) = reply::entry(entry)?;
    let mut values = fields.into_iter().skip(1).step_by(2);
    let mut next = || {
        values
            .next()
            .ok_or_else(|| BrokerError::Corrupt(format!("the dead letter {offset} lacks a field")))
    };
    let source = reply::bytes(next()?)?;
    let reason = reply::text(next()?)?;
    let entry = reply::bytes(next()?)?;
    let source = serde_json::from_slice(&source)
        .map_err(|error| BrokerError::Corrupt(format!("the dead letter {offset}: {error}")))?;
    Ok(DeadLetter {
        id: DeadLetterId { partition, offset },
        source,
        reason,
        entry,
        buried_at: offset.milliseconds,
    })
}
