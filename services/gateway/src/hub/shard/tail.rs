//! The newest messages of a room, in memory: a reconnect within them costs Redis nothing.
//!
//! A tail knows everything between two places, above the first and up to the second. Frames extend it at its end,
//! pages of history at its beginning, and the oldest messages fall out when it is full. What it does not know for
//! certain it forgets.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use carillon_model::Offset;

use crate::hub::delivery::Delivery;

/// How much memory tails may take, in bytes.
#[derive(Clone, Debug)]
pub(super) struct TailBudget {
    /// One tail.
    pub(super) each: usize,
    /// All tails of the gateway together.
    pub(super) together: usize,
    /// What all of them hold.
    pub(super) held: Arc<AtomicUsize>,
}

/// Everything of a room above `above`, up to `upto`.
#[derive(Debug)]
pub(super) struct Tail {
    known: Option<Interval>,
    messages: VecDeque<Arc<Delivery>>,
    bytes: usize,
    budget: TailBudget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    above: Offset,
    upto: Offset,
}

/// Part of a room's history, without a break, as a read found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    /// Everything above this is there.
    pub(super) above: Offset,
    /// Everything up to this is there.
    pub(super) upto: Offset,
    /// The messages.
    pub(super) items: &'a [Arc<Delivery>],
}

impl Tail {
    pub(super) fn new(budget: TailBudget) -> Self {
        Self {
            known: None,
            messages: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    /// The room's newest message came.
    pub(super) fn push(&mut self, delivery: &Arc<Delivery>) {
        let Some(prev) = delivery.prev else {
            return self.forget();
        };
        if !self
            .known
            .is_some_and(|known| prev <= known.upto && known.upto < delivery.offset)
        {
            self.forget();
        }
        let known = self.known.get_or_insert(Interval {
            above: prev,
            upto: prev,
        });
        known.upto = delivery.offset;
        self.add(delivery.weight);
        self.messages.push_back(Arc::clone(delivery));
        self.fit();
    }

    /// Nothing came between the last place and this one.
    pub(super) fn nothing_until(&mut self, from: Offset, to: Offset) {
        match &mut self.known {
            Some(known) if known.upto == from => known.upto = to,
            _ => {
                self.forget();
                self.known = Some(Interval { above: to, upto: to });
            }
        }
    }

    /// A read found a stretch of history; `last` is the room's last offset.
    pub(super) fn learn(&mut self, stretch: Stretch<'_>, last: Offset) {
        let current = self.known.filter(|known| known.upto == last);
        let older = match current {
            None if stretch.upto >= last && stretch.above <= last => {
                self.forget();
                self.known = Some(Interval {
                    above: last,
                    upto: last,
                });
                last
            }
            Some(known) if stretch.above < known.above && stretch.upto >= known.above => known.above,
            _ => return,
        };
        let items = stretch.items.iter().filter(|item| item.offset <= older);
        for item in items.rev() {
            if self.bytes + item.weight > self.budget.each || self.over_budget() {
                // What is older than the first that does not fit is not known.
                if let Some(known) = &mut self.known {
                    known.above = item.offset;
                }
                return;
            }
            self.add(item.weight);
            self.messages.push_front(Arc::clone(item));
        }
        if let Some(known) = &mut self.known {
            known.above = stretch.above;
        }
    }

    /// Everything after a cursor, if it is certain that nothing is missing; `last` is the room's last offset.
    pub(super) fn after(&self, cursor: Offset, last: Offset) -> Option<Vec<Arc<Delivery>>> {
        if cursor == last {
            return Some(Vec::new());
        }
        let known = self.known?;
        let proved = known.upto == last && known.above <= cursor && cursor < last;
        proved.then(|| {
            self.messages
                .iter()
                .filter(|message| message.offset > cursor)
                .cloned()
                .collect()
        })
    }

    /// Nothing is certain any more.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.messages.clear();
        let bytes = std::mem::take(&mut self.bytes);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn over_budget(&self) -> bool {
        self.budget.held.load(Ordering::Relaxed) > self.budget.together
    }

    fn fit(&mut self) {
        while self.bytes > self.budget.each || (self.over_budget() && !self.messages.is_empty()) {
            let Some(oldest) = self.messages.pop_front() else {
                return;
            };
            self.bytes -= oldest.weight;
            self.budget.held.fetch_sub(oldest.weight, Ordering::Relaxed);
            if let Some(known) = &mut self.known {
                known.above = oldest.offset;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use carillon_model::{Data, EventName, Message, MessageId, Room, Sender};

    use super::*;

    fn delivery(offset: u64, prev: u64) -> Arc<Delivery> {
        let message = Message {
            id: MessageId::fresh(),
            event: EventName::new("test").unwrap(),
            data: Data::NULL,
            accepted_at: 0,
            copies: 1,
            sender: Sender::Anonymous,
            traceparent: String::new(),
        };
        let delivery = Delivery::new(Room::new("r").unwrap(), at(offset), Some(at(prev)), message);
        Arc::new(delivery.unwrap())
    }

    fn at(milliseconds: u64) -> Offset {
        Offset::new(milliseconds, 0)
    }

    fn tail(messages: usize) -> Tail {
        let each = delivery(10, 5).weight * messages;
        Tail::new(TailBudget {
            each,
            together: 1 << 20,
            held: Arc::default(),
        })
    }

    fn after(tail: &Tail, cursor: u64, last: u64) -> Option<Vec<u64>> {
        let found = tail.after(at(cursor), at(last))?;
        Some(found.iter().map(|message| message.offset.milliseconds).collect())
    }

    #[test]
    fn frames_extend_it_and_a_break_starts_it_anew() {
        let mut tail = tail(10);
        tail.push(&delivery(10, 5));
        tail.push(&delivery(20, 10));
        assert_eq!(after(&tail, 5, 20), Some(vec![10, 20]));
        assert_eq!(after(&tail, 4, 20), None, "what was before is not known");
        assert_eq!(after(&tail, 10, 30), None, "the room is further");
        tail.push(&delivery(40, 30));
        assert_eq!(after(&tail, 10, 40), None, "30 was missed");
        assert_eq!(after(&tail, 30, 40), Some(vec![40]));
    }

    #[test]
    fn the_oldest_fall_out_when_it_is_full() {
        let mut tail = tail(2);
        for offset in [10, 20, 30] {
            tail.push(&delivery(offset, offset - 10));
        }
        assert_eq!(after(&tail, 10, 30), Some(vec![20, 30]));
        assert_eq!(after(&tail, 9, 30), None);
    }

    #[test]
    fn pages_extend_it_backwards() {
        let mut tail = tail(10);
        tail.push(&delivery(30, 20));
        let items = [delivery(10, 5), delivery(20, 10), delivery(30, 20)];
        tail.learn(
            Stretch {
                above: at(5),
                upto: at(30),
                items: &items,
            },
            at(30),
        );
        assert_eq!(after(&tail, 5, 30), Some(vec![10, 20, 30]));
        tail.learn(
            Stretch {
                above: at(1),
                upto: at(3),
                items: &[],
            },
            at(30),
        );
        assert_eq!(
            after(&tail, 1, 30),
            None,
            "a stretch that does not touch it says nothing"
        );
    }

    #[test]
    fn a_page_behind_the_room_is_not_all_of_it() {
        let mut tail = tail(10);
        let items = [delivery(10, 5)];
        tail.learn(
            Stretch {
                above: at(5),
                upto: at(10),
                items: &items,
            },
            at(30),
        );
        assert_eq!(after(&tail, 5, 30), None);
        tail.learn(
            Stretch {
                above: at(5),
                upto: at(30),
                items: &items,
            },
            at(30),
        );
        assert_eq!(after(&tail, 5, 30), Some(vec![10]));
    }

    #[test]
    fn all_tails_together_are_bounded_and_give_back_what_they_held() {
        let held = Arc::new(AtomicUsize::new(0));
        let weight = delivery(10, 5).weight;
        let budget = TailBudget {
            each: 1 << 20,
            together: weight * 3,
            held: Arc::clone(&held),
        };
        let mut tails: Vec<Tail> = (0..4).map(|_| Tail::new(budget.clone())).collect();
        for tail in &mut tails {
            for offset in [10, 20] {
                tail.push(&delivery(offset, offset - 10));
            }
        }
        assert!(held.load(Ordering::Relaxed) <= weight * 3);
        drop(tails);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
