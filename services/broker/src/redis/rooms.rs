//! Routes and histories of rooms.

use async_trait::async_trait;
use carillon_model::{Gap, Partition, Room, wire::HistoryEntry};
use prost::Message as _;
use redis::Value;

use super::{RedisBroker, call::Call, reply, scripts};
use crate::{
    Broker, BrokerError, HistoryItem, HistoryPage, HistoryQuery, Incarnation, NewestPage, NewestQuery,
    Result, Rooms, RoomsState,
};

#[async_trait]
impl Rooms for RedisBroker {
    async fn add_routes(
        &self,
        partition: Partition,
        rooms: &[Room],
        route: &Incarnation,
    ) -> Result<RoomsState> {
        let keys = self.keys();
        let mut names = vec![keys.queue(partition), keys.run(partition)];
        for room in rooms {
            names.push(keys.routes(partition, room));
            names.push(keys.last(partition, room));
        }
        let call = Call::script(&scripts::ADD_ROUTES, &names).arg(route.as_str());
        let [last, stand] = reply::tuple(self.call(call).await?)?;
        let partition = self.partition_state(stand).await?;
        let last = reply::array(last)?
            .into_iter()
            .map(reply::optional_offset)
            .collect::<Result<_>>()?;
        Ok(RoomsState { last, partition })
    }

    async fn remove_routes(&self, partition: Partition, rooms: &[Room], route: &Incarnation) -> Result<()> {
        let keys = self.keys();
        let names: Vec<String> = rooms.iter().map(|room| keys.routes(partition, room)).collect();
        if !names.is_empty() {
            self.call(Call::script(&scripts::REMOVE_ROUTES, &names).arg(route.as_str()))
                .await?;
        }
        Ok(())
    }

    async fn read_history(&self, room: &Room, query: HistoryQuery) -> Result<HistoryPage> {
        let partition = self.partitions().partition_of(room);
        let keys = self.keys();
        let names = [
            keys.queue(partition),
            keys.run(partition),
            keys.history(partition, room),
            keys.last(partition, room),
        ];
        let call = Call::script(&scripts::READ_HISTORY, &names)
            .arg(query.after.map(|after| after.to_string()).unwrap_or_default())
            .arg(query.entries)
            .arg(query.bytes);
        let [last, entries, more, stand] = reply::tuple(self.call(call).await?)?;
        Ok(HistoryPage {
            last: reply::optional_offset(last)?,
            items: reply::array(entries)?
                .into_iter()
                .map(item)
                .collect::<Result<_>>()?,
            more: reply::number(more)? == 1,
            partition: self.partition_state(stand).await?,
        })
    }

    async fn read_newest(&self, room: &Room, query: NewestQuery) -> Result<NewestPage> {
        let partition = self.partitions().partition_of(room);
        let keys = self.keys();
        let names = [
            keys.queue(partition),
            keys.run(partition),
            keys.history(partition, room),
        ];
        let call = Call::script(&scripts::READ_NEWEST, &names)
            .arg(query.below.map(|below| below.to_string()).unwrap_or_default())
            .arg(query.entries)
            .arg(query.bytes);
        let [entries, more, stand] = reply::tuple(self.call(call).await?)?;
        Ok(NewestPage {
            items: reply::array(entries)?
                .into_iter()
                .map(item)
                .collect::<Result<_>>()?,
            more: reply::number(more)? == 1,
            partition: self.partition_state(stand).await?,
        })
    }
}

fn item(value: Value) -> Result<HistoryItem> {
    let (offset, fields) = reply::entry(value)?;
    let corrupt = |what: String| BrokerError::Corrupt(format!("the history entry at {offset}: {what}"));
    let entry =
        HistoryEntry::decode(reply::only_field(fields)).map_err(|error| corrupt(error.to_string()))?;
    let prev = entry
        .prev
        .parse()
        .map_err(|error: carillon_model::offset::InvalidOffset| corrupt(error.to_string()))?;
    Ok(HistoryItem {
        offset,
        prev,
        gap: entry.gap.as_ref().map(Gap::from),
        message: entry.message,
    })
}
