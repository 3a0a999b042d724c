//! Entries of queues, histories and channels. They come from Redis, where whoever has its password may write.

use bytes::{BufMut as _, Bytes, BytesMut};
use carillon_model::{
    EventName, Message, Offset, Room,
    wire::{ChannelEntry, HistoryEntry, MessageRecord, QueueEntry, RoomMessage},
};
use prost::Message as _;

/// Whatever is read is the same when it is written and read again.
pub fn target(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    stable::<QueueEntry>(&bytes);
    stable::<RoomMessage>(&bytes);
    stable::<ChannelEntry>(&bytes);
    stable::<MessageRecord>(&bytes);
    if let Some(entry) = stable::<HistoryEntry>(&bytes) {
        recorded(&entry);
    }
    message(&bytes);
    if let Ok(QueueEntry {
        content: Some(carillon_model::wire::queue_entry::Content::Message(entry)),
        ..
    }) = QueueEntry::decode(bytes)
    {
        message(&entry.message);
        if let Ok(room) = Room::new(&entry.room) {
            let made = QueueEntry::of_message(&room, entry.message.clone());
            let again = QueueEntry::decode(made.encode_to_vec().as_slice()).expect("what we write");
            assert_eq!(again, made);
        }
    }
}

fn stable<T: prost::Message + Default + PartialEq>(bytes: &Bytes) -> Option<T> {
    let read = T::decode(bytes.clone()).ok()?;
    let written = read.encode_to_vec();
    // Fields that are unknown are dropped, numbers are written at their shortest; only a list of one number may grow,
    // because lists are written packed.
    assert!(written.len() <= bytes.len() * 2);
    assert!(T::decode(written.as_slice()).expect("what we write") == read);
    Some(read)
}

/// The recording script appends `prev` as text behind an entry that has none.
fn recorded(entry: &HistoryEntry) {
    let without = HistoryEntry {
        prev: String::new(),
        ..entry.clone()
    };
    let prev = Offset::new(u64::MAX, 0).to_string();
    let mut bytes = BytesMut::from(without.encode_to_vec().as_slice());
    bytes.put_u8(18);
    bytes.put_u8(u8::try_from(prev.len()).expect("short"));
    bytes.put_slice(prev.as_bytes());
    let read = HistoryEntry::decode(bytes.freeze()).expect("an entry");
    assert_eq!((read.prev, read.message), (prev, entry.message.clone()));
}

fn message(bytes: &Bytes) {
    let Ok(message) = Message::decode(bytes.clone()) else {
        return;
    };
    assert!(message.copies >= 1);
    assert!(EventName::new(message.event.as_str()).is_ok());
    assert_eq!(Message::decode(message.encode()), Ok(message));
}
