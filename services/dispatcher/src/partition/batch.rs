//! What was read from a queue, decoded as far as it can be.

use bytes::Bytes;
use carillon_broker::QueueItem;
use carillon_model::{Offset, Partition, PartitionCount, Room, wire};
use prost::Message as _;

/// An entry that can be handled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A message on its way to a room. Its bytes are passed on untouched.
    Message {
        /// Where it goes.
        room: Room,
        /// The encoded `carillon.wire.v1.Message`.
        message: Bytes,
        /// Its trace, if that is recorded; else empty.
        traceparent: String,
    },
    /// A dispatcher's question whether the path works.
    Probe(wire::Probe),
}

/// Entries from the head of a queue, in its order.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What can be handled, up to the first entry that can't.
    pub(crate) entries: Vec<(Offset, Entry)>,
    /// The first entry that can't be handled, if there is one, and why.
    pub(crate) unreadable: Option<(Offset, String)>,
}

impl Batch {
    /// Decodes entries. None of them is empty of meaning: `items` must not be empty.
    pub(crate) fn decode(
        partition: Partition,
        partitions: PartitionCount,
        items: impl IntoIterator<Item = QueueItem>,
    ) -> Self {
        let mut entries = Vec::new();
        for item in items {
            match decode(partition, partitions, item.entry) {
                Ok(entry) => entries.push((item.offset, entry)),
                Err(reason) => {
                    return Self {
                        entries,
                        unreadable: Some((item.offset, reason)),
                    };
                }
            }
        }
        Self {
            entries,
            unreadable: None,
        }
    }

    /// The offset up to which this batch is an acknowledgement.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.entries.last().map(|(offset, _)| *offset)
    }

    /// The messages in it.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (Offset, &Room, &Bytes)> {
        self.entries.iter().filter_map(|(offset, entry)| match entry {
            Entry::Message { room, message, .. } => Some((*offset, room, message)),
            Entry::Probe(_) => None,
        })
    }

    /// Whether there is a probe in it.
    pub(crate) fn has_probes(&self) -> bool {
        self.entries
            .iter()
            .any(|(_, entry)| matches!(entry, Entry::Probe(_)))
    }
}

fn decode(partition: Partition, partitions: PartitionCount, entry: Bytes) -> Result<Entry, String> {
    let entry = wire::QueueEntry::decode(entry).map_err(|error| format!("not a queue entry: {error}"))?;
    match entry.content {
        Some(wire::queue_entry::Content::Message(message)) => {
            let room = Room::new(&message.room).map_err(|error| format!("its room is invalid: {error}"))?;
            let home = partitions.partition_of(&room);
            if home != partition {
                return Err(format!(
                    "its room belongs to partition {home}, not {partition}; was it written by something else than carillon?"
                ));
            }
            if message.message.is_empty() {
                return Err("there is no message in it".to_owned());
            }
            Ok(Entry::Message {
                room,
                message: message.message,
                traceparent: message.traceparent,
            })
        }
        Some(wire::queue_entry::Content::Probe(probe)) => Ok(Entry::Probe(probe)),
        None => Err("neither a message nor a probe; it may come from a newer version".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(place: u64, entry: &wire::QueueEntry) -> QueueItem {
        QueueItem {
            offset: Offset::new(place, 0),
            entry: entry.encode_to_vec().into(),
        }
    }

    fn message(room: &str) -> wire::QueueEntry {
        wire::QueueEntry {
            content: Some(wire::queue_entry::Content::Message(wire::RoomMessage {
                room: room.to_owned(),
                message: Bytes::from_static(b"x"),
                traceparent: String::new(),
            })),
        }
    }

    #[test]
    fn what_comes_before_a_broken_entry_can_be_handled() {
        let one = PartitionCount::new(1).unwrap();
        let broken = QueueItem {
            offset: Offset::new(2, 0),
            entry: Bytes::from_static(b"\xff\xff"),
        };
        let items = [item(1, &message("a")), broken, item(3, &message("a"))];
        let batch = Batch::decode(Partition(0), one, items);
        assert_eq!(batch.last(), Some(Offset::new(1, 0)));
        assert_eq!(batch.unreadable.unwrap().0, Offset::new(2, 0));
    }

    #[test]
    fn a_reason_says_what_is_wrong() {
        let two = PartitionCount::new(2).unwrap();
        let home = two.partition_of(&Room::all());
        let away = Partition(1 - home.0);
        let reason = |partition, entry: &wire::QueueEntry| {
            Batch::decode(partition, two, [item(1, entry)])
                .unreadable
                .unwrap()
                .1
        };
        assert!(reason(away, &message("all")).contains("belongs to partition"));
        assert!(reason(home, &message("")).contains("room is invalid"));
        assert!(reason(home, &wire::QueueEntry { content: None }).contains("neither"));
    }
}
