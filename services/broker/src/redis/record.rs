//! A batch goes from the queue into the histories of its rooms.

use carillon_model::wire::HistoryEntry;
use indexmap::IndexSet;
use prost::Message as _;

use super::{RedisBroker, call::Call, queue::milliseconds, reply, scripts};
use crate::{Fenced, LeaseName, Record, RecordOutcome, Recorded, Result};

impl RedisBroker {
    pub(super) async fn record_batch(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        let (keys, partition) = (self.keys(), record.partition);
        let rooms: IndexSet<_> = record.entries.iter().map(|entry| entry.room.clone()).collect();
        let mut names = vec![keys.lease(&LeaseName::Partition(partition)), keys.run(partition)];
        for room in &rooms {
            names.push(keys.history(partition, room));
            names.push(keys.history_bytes(partition, room));
            names.push(keys.last(partition, room));
            names.push(keys.routes(partition, room));
        }
        let mut call = Call::script(&scripts::RECORD, &names)
            .arg(record.token.0)
            .arg(self.topology().identities().present(&record.life))
            .arg(record.horizon.to_string())
            .arg(rooms.len())
            .arg(record.entries.len());
        // What this batch itself holds of a room is the owner's own contiguous reading.
        for entry in &record.entries {
            // The script appends prev behind this, as the entry's last field.
            let encoded = HistoryEntry {
                message: entry.message.clone(),
                prev: String::new(),
                gap: entry.gap.map(Into::into),
            }
            .encode_to_vec();
            call = call
                .arg(rooms.get_index_of(&entry.room).unwrap_or_default())
                .arg(entry.offset.to_string())
                .arg(entry.prev.map(|prev| prev.to_string()).unwrap_or_default())
                .arg(encoded)
                .arg(entry.history.size)
                .arg(milliseconds(entry.history.age))
                .arg(entry.history.bytes)
                .arg(if entry.room.has_offsets() {
                    "room"
                } else {
                    "session"
                });
        }
        let Some(answer) = reply::present(self.call(call).await?) else {
            return Ok(Fenced::Lost);
        };
        let [recorded, routes] = reply::tuple(answer)?;
        let entries = reply::array(recorded)?.into_iter().map(|entry| {
            let [prev, repeated] = reply::tuple(entry)?;
            let prev = reply::text(prev)?;
            let prev = if prev.is_empty() {
                None
            } else {
                Some(reply::offset(redis::Value::SimpleString(prev))?)
            };
            Ok(Recorded {
                prev,
                repeated: reply::number(repeated)? == 1,
            })
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let routes = rooms
            .into_iter()
            .zip(reply::array(routes)?)
            .map(|(room, members)| Ok((room, reply::incarnations(members)?.into())));
        Ok(Fenced::Done(RecordOutcome {
            entries,
            routes: routes.collect::<Result<_>>()?,
        }))
    }
}
