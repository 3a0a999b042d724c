//! What each gateway gets of a batch: one channel entry with all its frames, in the queue's order.

use std::sync::Arc;

use bytes::Bytes;
use carillon_broker::{Incarnation, Recorded};
use carillon_model::{Offset, Room, collections::LookupMap, wire};
use indexmap::IndexMap;
use prost::Message as _;

use super::{
    batch::{Batch, Entry},
    traces::BatchTrace,
};

/// What goes into one gateway's channel.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Whose channel.
    pub(crate) gateway: Incarnation,
    /// The encoded `carillon.wire.v1.ChannelEntry`; gateways that get the same share the bytes.
    pub(crate) entry: Bytes,
    /// Messages and gaps in it.
    pub(crate) frames: usize,
    /// Places of its entries in the batch.
    pub(super) places: Vec<usize>,
}

impl Parcel {
    /// The rooms because of which it goes there, each once.
    pub(crate) fn rooms(&self, batch: &Batch) -> Vec<Room> {
        let rooms: indexmap::IndexSet<&Room> = self
            .places
            .iter()
            .filter_map(|place| batch.entries.get(*place)?.1.room())
            .collect();
        rooms.into_iter().cloned().collect()
    }
}

/// Makes the parcels of a batch: for every gateway that holds a target, and with probes for every living one.
///
/// `recorded` has one for each message and gap of the batch, in order. With a `trace`, frames go on under its spans.
pub(crate) fn parcels(
    batch: &Batch,
    recorded: &[Recorded],
    routes: &[(Room, Arc<[Incarnation]>)],
    living: &[Incarnation],
    trace: Option<&BatchTrace>,
) -> Vec<Parcel> {
    let routes: LookupMap<&Room, &Arc<[Incarnation]>> = routes.iter().map(|(room, to)| (room, to)).collect();
    let mut prevs = recorded.iter();
    let mut entry_prevs: Vec<Option<Offset>> = Vec::with_capacity(batch.entries.len());
    let mut places: IndexMap<&Incarnation, Vec<usize>> = IndexMap::new();
    for (place, (_, entry)) in batch.entries.iter().enumerate() {
        let targets = match entry.room() {
            Some(room) => {
                entry_prevs.push(prevs.next().and_then(|recorded| recorded.prev));
                routes.get(room).map_or(&[][..], |targets| targets)
            }
            None => {
                entry_prevs.push(None);
                living
            }
        };
        for gateway in targets {
            places.entry(gateway).or_default().push(place);
        }
    }
    let mut encoded: IndexMap<Vec<usize>, Bytes> = IndexMap::new();
    places
        .into_iter()
        .map(|(gateway, places)| {
            let entry = encoded
                .entry(places.clone())
                .or_insert_with_key(|places| encode(batch, &entry_prevs, places, trace));
            let frames = places
                .iter()
                .filter(|place| {
                    batch
                        .entries
                        .get(**place)
                        .is_some_and(|(_, entry)| entry.room().is_some())
                })
                .count();
            Parcel {
                gateway: gateway.clone(),
                entry: entry.clone(),
                frames,
                places,
            }
        })
        .collect()
}

fn encode(batch: &Batch, prevs: &[Option<Offset>], places: &[usize], trace: Option<&BatchTrace>) -> Bytes {
    let mut channel = wire::ChannelEntry::default();
    for place in places {
        let Some((offset, entry)) = batch.entries.get(*place) else {
            continue;
        };
        let prev = || prevs.get(*place).copied().flatten().map(wire::Offset::from);
        match entry {
            Entry::Message {
                room,
                message,
                traceparent,
            } => channel.frames.push(wire::Frame {
                room: room.as_str().to_owned(),
                offset: Some((*offset).into()),
                prev: prev(),
                message: message.clone(),
                // A process that exports nothing passes on what came.
                traceparent: trace
                    .and_then(|trace| trace.traceparent_of(*place))
                    .unwrap_or(traceparent)
                    .to_owned(),
                gap: None,
            }),
            Entry::Gap { room, gap } => channel.frames.push(wire::Frame {
                room: room.as_str().to_owned(),
                offset: Some((*offset).into()),
                prev: prev(),
                gap: Some((*gap).into()),
                ..wire::Frame::default()
            }),
            Entry::PartitionGap => channel.partition_gaps.push(u32::from(batch.partition.0)),
            Entry::Probe(probe) => channel.probes.push(wire::ProbeFrame {
                offset: Some((*offset).into()),
                probe: Some(probe.clone()),
            }),
        }
    }
    channel.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gateway_gets_its_frames_in_order_and_all_get_probes() {
        let (first, second) = (Incarnation::new("g1", 1), Incarnation::new("g2", 1));
        let (a, b) = (Room::new("a").unwrap(), Room::new("b").unwrap());
        let message = |room: &Room| Entry::Message {
            room: room.clone(),
            message: Bytes::from_static(b"m"),
            traceparent: format!("trace of {room}"),
        };
        let probe = Entry::Probe(wire::Probe::default());
        let entries = [message(&a), message(&b), probe, message(&a)];
        let batch = Batch {
            partition: carillon_model::Partition(0),
            entries: (1..).map(|at| Offset::new(at, 0)).zip(entries).collect(),
            unreadable: None,
        };
        let recorded = [0, 5, 1].map(|prev| Recorded {
            prev: Some(Offset::new(prev, 0)),
            repeated: false,
        });
        let routes = [
            (a.clone(), Arc::from([first.clone()])),
            (b, Arc::from([first.clone(), second.clone()])),
        ];
        let idle = Incarnation::new("g3", 1);
        let living = [first.clone(), second, idle];
        let parcels = parcels(&batch, &recorded, &routes, &living, None);
        assert_eq!(parcels.len(), 3);
        let entry = wire::ChannelEntry::decode(parcels[0].entry.clone()).unwrap();
        let offsets: Vec<_> = entry
            .frames
            .iter()
            .map(|frame| frame.offset.unwrap().milliseconds)
            .collect();
        let prevs: Vec<_> = entry
            .frames
            .iter()
            .map(|frame| frame.prev.unwrap().milliseconds)
            .collect();
        assert_eq!((offsets, prevs), (vec![1, 2, 4], vec![0, 5, 1]));
        let traces: Vec<_> = entry.frames.iter().map(|frame| &*frame.traceparent).collect();
        assert_eq!(
            traces,
            ["trace of a", "trace of b", "trace of a"],
            "passed on as they came"
        );
        assert_eq!(parcels[0].rooms(&batch).first(), Some(&a));
        for parcel in &parcels {
            let entry = wire::ChannelEntry::decode(parcel.entry.clone()).unwrap();
            assert_eq!(entry.probes.len(), 1, "{}", parcel.gateway);
        }
        assert_eq!(parcels[2].frames, 0);
    }
}
