//! Plain lists of old producers.

use async_trait::async_trait;

use super::{RedisBroker, call::Call, reply, scripts};
use crate::{FencingToken, LeaseName, ListItem, Lists, Result, TakeOutcome};

#[async_trait]
impl Lists for RedisBroker {
    async fn take(&self, list: &str, token: FencingToken, limit: usize) -> Result<TakeOutcome> {
        let keys = self.keys();
        let names = [
            list.to_owned(),
            keys.lease(&LeaseName::List(list.to_owned())),
            keys.of_list("state", list),
            keys.of_list("pending", list),
        ];
        let answer = self
            .call(Call::script(&scripts::TAKE_LIST, &names).arg(token.0).arg(limit))
            .await?;
        let pairs = match answer {
            redis::Value::BulkString(text) if text == b"lost" => return Ok(TakeOutcome::Lost),
            redis::Value::BulkString(_) => return Ok(TakeOutcome::NotAList),
            other => reply::array(other)?,
        };
        let mut items = Vec::with_capacity(pairs.len() / 2);
        let mut pairs = pairs.into_iter();
        while let (Some(number), Some(item)) = (pairs.next(), pairs.next()) {
            items.push(ListItem {
                number: reply::unsigned(number)?,
                item: reply::bytes(item)?,
            });
        }
        items.sort_by_key(|item| item.number);
        Ok(TakeOutcome::Items(items))
    }

    async fn settle(&self, list: &str, numbers: &[u64]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let key = self.keys().of_list("pending", list);
        self.call(Call::command("HDEL", &key).arg(&key).arg(numbers).writing())
            .await
            .map(drop)
    }
}
