//! What was read from a queue, decoded as far as it can be.

use bytes::Bytes;
use carillon_broker::QueueItem;
use carillon_model::{Gap, Offset, Partition, PartitionCount, Room, wire};
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
    /// Messages of a room were accepted and lost by Redis before this place.
    Gap {
        /// The room.
        room: Room,
        /// What it lost.
        gap: Gap,
    },
    /// Messages of the partition were lost, and nobody knows which.
    PartitionGap,
    /// A dispatcher's question whether the path works.
    Probe(wire::Probe),
}

/// An entry on its way into a room's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RoomEntry<'a> {
    /// Its place.
    pub(crate) offset: Offset,
    /// The room.
    pub(crate) room: &'a Room,
    /// The encoded message; none for a gap.
    pub(crate) message: Option<&'a Bytes>,
    /// What was lost before it, if it is a gap.
    pub(crate) gap: Option<Gap>,
}

impl Entry {
    /// The room it goes to, if it goes to one.
    pub(crate) fn room(&self) -> Option<&Room> {
        match self {
            Self::Message { room, .. } | Self::Gap { room, .. } => Some(room),
            Self::PartitionGap | Self::Probe(_) => None,
        }
    }
}

/// Entries from the head of a queue, in its order.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Of which partition they are.
    pub(crate) partition: Partition,
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
                        partition,
                        entries,
                        unreadable: Some((item.offset, reason)),
                    };
                }
            }
        }
        Self {
            partition,
            entries,
            unreadable: None,
        }
    }

    /// The offset up to which this batch is an acknowledgement.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.entries.last().map(|(offset, _)| *offset)
    }

    /// What goes into rooms: messages and gaps.
    pub(crate) fn of_rooms(&self) -> impl Iterator<Item = RoomEntry<'_>> {
        self.entries.iter().filter_map(|(offset, entry)| {
            let (room, message, gap) = match entry {
                Entry::Message { room, message, .. } => (room, Some(message), None),
                Entry::Gap { room, gap } => (room, None, Some(*gap)),
                Entry::PartitionGap | Entry::Probe(_) => return None,
            };
            Some(RoomEntry {
                offset: *offset,
                room,
                message,
                gap,
            })
        })
    }

    /// Whether something in it is for every gateway.
    pub(crate) fn is_for_all(&self) -> bool {
        self.entries.iter().any(|(_, entry)| entry.room().is_none())
    }

    /// Whether it says that nobody knows what the partition lost.
    pub(crate) fn marks_the_partition(&self) -> bool {
        self.count(|entry| matches!(entry, Entry::PartitionGap)) > 0
    }

    /// How many entries of a kind there are.
    pub(crate) fn count(&self, of_kind: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|(_, entry)| of_kind(entry)).count()
    }
}

fn decode(partition: Partition, partitions: PartitionCount, entry: Bytes) -> Result<Entry, String> {
    let entry = wire::QueueEntry::decode(entry).map_err(|error| format!("not a queue entry: {error}"))?;
    let room_of = |name: &str| {
        let room = Room::new(name).map_err(|error| format!("its room is invalid: {error}"))?;
        let home = partitions.partition_of(&room);
        if home != partition {
            return Err(format!(
                "its room belongs to partition {home}, not {partition}; was it written by something else than carillon?"
            ));
        }
        Ok(room)
    };
    if let Some(gap) = &entry.gap {
        return Ok(match gap.room.as_str() {
            "" => Entry::PartitionGap,
            name => Entry::Gap {
                room: room_of(name)?,
                gap: Gap::from(gap),
            },
        });
    }
    match entry.content {
        Some(wire::queue_entry::Content::Message(message)) => {
            let room = room_of(&message.room)?;
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
            gap: None,
        }
    }

    #[test]
    fn a_gap_is_one_whatever_carries_it() {
        let one = PartitionCount::new(1).unwrap();
        let gap = Gap {
            lost_upto: Offset::new(5, 0),
            seen_below: Offset::new(9, 0),
        };
        let items = [
            item(11, &wire::QueueEntry::of_gap(&Room::all(), gap)),
            item(12, &wire::QueueEntry::of_partition_gap()),
        ];
        let batch = Batch::decode(Partition(0), one, items);
        let room = Room::all();
        let entries: Vec<&Entry> = batch.entries.iter().map(|(_, entry)| entry).collect();
        assert_eq!(entries, [&Entry::Gap { room, gap }, &Entry::PartitionGap]);
        assert_eq!(batch.of_rooms().count(), 1, "a partition's gap is in no history");
        assert!(batch.is_for_all());
    }

    /// A dispatcher that does not know gaps takes them for probes.
    #[test]
    fn a_gap_carries_a_probe_for_versions_that_do_not_know_it() {
        for entry in [
            wire::QueueEntry::of_gap(&Room::all(), Gap::default()),
            wire::QueueEntry::of_partition_gap(),
        ] {
            let probe = wire::queue_entry::Content::Probe(wire::Probe::default());
            assert_eq!(entry.content, Some(probe));
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
        assert!(reason(home, &wire::QueueEntry::default()).contains("neither"));
    }
}
