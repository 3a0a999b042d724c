//! A gateway's channel.

use std::collections::VecDeque;

use bytes::Bytes;
use carillon_model::Offset;

use super::{OVERHEAD, next_id};
use crate::ChannelItem;

/// Entries nobody trimmed yet.
#[derive(Clone, Debug, Default)]
pub(in crate::memory) struct Channel {
    pub(in crate::memory) entries: VecDeque<(Offset, ChannelItem)>,
    pub(in crate::memory) last: Offset,
    /// Bytes of the entries alone: what the cap is measured by.
    pub(in crate::memory) bytes: u64,
}

impl Channel {
    pub(in crate::memory) fn push(&mut self, now: u64, entry: Bytes) {
        self.bytes += entry.len() as u64;
        self.add(now, ChannelItem::Entry(entry));
    }

    /// Throws everything away and says so.
    pub(in crate::memory) fn overrun(&mut self, now: u64) {
        self.entries.clear();
        self.bytes = 0;
        self.add(now, ChannelItem::Overrun);
    }

    pub(in crate::memory) fn trim(&mut self, upto: Offset) {
        while let Some((id, _)) = self.entries.front()
            && *id <= upto
        {
            if let Some((_, ChannelItem::Entry(entry))) = self.entries.pop_front() {
                self.bytes -= entry.len() as u64;
            }
        }
    }

    pub(in crate::memory) fn used(&self) -> u64 {
        self.bytes + OVERHEAD * (self.entries.len() as u64 + 1)
    }

    fn add(&mut self, now: u64, item: ChannelItem) {
        self.last = next_id(now, self.last);
        self.entries.push_back((self.last, item));
    }
}
