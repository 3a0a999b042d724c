//! The promises, checked at the clients.

use std::collections::BTreeMap;

use carillon_model::{MessageId, Offset, Room};
use parking_lot::Mutex;

/// Everything producers know and clients saw.
#[derive(Debug, Default)]
pub struct Audit(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    names: BTreeMap<MessageId, (String, Room)>,
    accepted: BTreeMap<MessageId, (Room, Offset)>,
    /// What each producer sent to each room, in order.
    order: BTreeMap<(String, Room), Vec<MessageId>>,
    clients: BTreeMap<usize, Seen>,
    trace: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Seen {
    messages: BTreeMap<MessageId, (usize, Room, Offset)>,
    count: usize,
    last: BTreeMap<Room, Offset>,
    since: BTreeMap<Room, Offset>,
    /// What it was told may be missing: above the first, up to the second.
    gaps: Vec<(Room, Option<Offset>, Offset)>,
    violations: Vec<(&'static str, String)>,
    falses: u64,
    trues: u64,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// What happened.
    pub detail: String,
}

impl Audit {
    /// An empty book; with a trace if asked for.
    pub fn new(trace: bool) -> Self {
        Self(Mutex::new(Book {
            trace: trace.then(Vec::new),
            ..Book::default()
        }))
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.0.lock().trace {
            let line = line();
            trace.push(line);
        }
    }

    /// The trace, if there is one.
    pub fn trace(&self) -> Vec<String> {
        self.0.lock().trace.clone().unwrap_or_default()
    }

    /// A message is about to be sent.
    pub fn sending(&self, id: MessageId, name: &str, room: &Room) {
        self.0.lock().names.insert(id, (name.to_owned(), room.clone()));
    }

    /// A producer knows that its message is kept.
    pub fn accepted(&self, producer: &str, id: MessageId, room: &Room, offset: Offset) {
        let mut book = self.0.lock();
        book.accepted.insert(id, (room.clone(), offset));
        book.order
            .entry((producer.to_owned(), room.clone()))
            .or_default()
            .push(id);
    }

    /// A client was told where it is in a room.
    pub fn told(&self, client: usize, room: &Room, offset: Offset, recovered: bool) {
        let mut book = self.0.lock();
        let seen = book.clients.entry(client).or_default();
        let before = seen.since.insert(room.clone(), offset);
        if recovered && before.is_some() {
            seen.trues += 1;
            return;
        }
        if !recovered {
            seen.falses += 1;
        }
        seen.last.insert(room.clone(), offset);
        seen.gaps.push((room.clone(), before, offset));
    }

    /// A client's cursors, as it would bring them.
    pub fn cursors(&self, client: usize) -> Vec<(Room, Offset)> {
        let book = self.0.lock();
        let seen = book.clients.get(&client);
        seen.map(|seen| {
            seen.since
                .iter()
                .map(|(room, offset)| (room.clone(), *offset))
                .collect()
        })
        .unwrap_or_default()
    }

    /// A client got a message.
    pub fn received(&self, client: usize, room: &Room, offset: Offset, id: MessageId, lost: &[MessageId]) {
        let mut book = self.0.lock();
        let name = book
            .names
            .get(&id)
            .map_or_else(|| id.to_string(), |(name, _)| name.clone());
        let seen = book.clients.entry(client).or_default();
        if seen.messages.contains_key(&id) && !lost.contains(&id) {
            seen.violations.push((
                "twice",
                format!("client {client} got {name} of {room} again at {offset}"),
            ));
        }
        if seen.last.get(room).is_some_and(|last| offset <= *last) {
            let last = seen.last[room];
            seen.violations.push((
                "order",
                format!("client {client} got {name} of {room} at {offset} after {last}"),
            ));
        }
        seen.count += 1;
        let place = seen.count;
        seen.messages.insert(id, (place, room.clone(), offset));
        seen.last.insert(room.clone(), offset);
        seen.since.insert(room.clone(), offset);
    }

    /// Whether a client got a message, or was told that it did not.
    pub fn has(&self, client: usize, id: MessageId) -> bool {
        let book = self.0.lock();
        let Some(seen) = book.clients.get(&client) else {
            return false;
        };
        let told = || {
            let (room, offset) = book.accepted.get(&id)?;
            // Where nothing is kept, or not for long enough, being told is all that is promised.
            let gap = |(of, above, upto): &(Room, Option<Offset>, Offset)| {
                of == room && above.is_none_or(|above| *offset > above) && offset <= upto
            };
            Some(seen.gaps.iter().any(gap))
        };
        seen.messages.contains_key(&id) || told().unwrap_or_default()
    }

    /// How many messages are accepted.
    pub fn accepted_count(&self) -> usize {
        self.0.lock().accepted.len()
    }

    /// Everything that was promised and not kept to these clients, who wanted these rooms all the time. `lost` are
    /// messages that servers lost with a failover; of them only that they are told, at whatever place. `judge_falses`: histories keep everything.
    pub fn violations(
        &self,
        clients: usize,
        rooms: &[Room],
        lost: &[MessageId],
        judge_falses: bool,
    ) -> Vec<Violation> {
        let book = self.0.lock();
        let mut found = Vec::new();
        let nobody = Seen::default();
        for client in 0..clients {
            let seen = book.clients.get(&client).unwrap_or(&nobody);
            found.extend(seen.violations.iter().map(|(promise, detail)| Violation {
                promise,
                detail: detail.clone(),
            }));
            for room in rooms {
                book.silent_losses(client, seen, room, lost, &mut found);
                book.producers_order(client, seen, room, lost, &mut found);
            }
            if judge_falses {
                Book::needless_falses(client, seen, &mut found);
            }
        }
        found
    }

    /// How many gaps were told to clients that missed nothing, in rooms that keep a history.
    pub fn needless_falses(&self, lost: &[MessageId]) -> u64 {
        let book = self.0.lock();
        let rooms: std::collections::BTreeSet<&Room> = book.accepted.values().map(|(room, _)| room).collect();
        let kept = rooms.into_iter().filter(|room| room.as_str() != "n");
        kept.flat_map(|room| book.clients.values().map(move |seen| (room, seen)))
            .map(|(room, seen)| book.needless_in(seen, room, lost))
            .sum()
    }

    /// How many recoveries were told complete, and how many gaps were told.
    pub fn told_counts(&self) -> (u64, u64) {
        let book = self.0.lock();
        book.clients.values().fold((0, 0), |(trues, falses), seen| {
            (trues + seen.trues, falses + seen.falses)
        })
    }
}

/// Whether a gap that was told is the one of a message. One that a server lost may be told at any later place.
fn tells(above: Option<Offset>, upto: Offset, offset: Offset, was_lost: bool) -> bool {
    offset <= upto && (was_lost || above.is_none_or(|above| offset > above))
}

impl Book {
    fn name(&self, id: &MessageId) -> &str {
        self.names.get(id).map_or("?", |(name, _)| name)
    }

    /// A message that was never seen must lie inside a told gap.
    fn silent_losses(
        &self,
        client: usize,
        seen: &Seen,
        room: &Room,
        lost: &[MessageId],
        found: &mut Vec<Violation>,
    ) {
        for (id, (_, offset)) in self.accepted.iter().filter(|(_, (of, _))| of == room) {
            if seen.messages.contains_key(id) {
                continue;
            }
            let was_lost = lost.contains(id);
            let told = seen
                .gaps
                .iter()
                .any(|(of, above, upto)| of == room && tells(*above, *upto, *offset, was_lost));
            if !told {
                let detail = format!(
                    "client {client} never got {} of {room} at {offset}",
                    self.name(id)
                );
                let promise = if was_lost {
                    "true over a lost message"
                } else {
                    "silent loss"
                };
                found.push(Violation { promise, detail });
            }
        }
    }

    /// How many gaps a client was told of in a room though it had everything that was accepted up to there, or had been
    /// told of what it missed before.
    fn needless_in(&self, seen: &Seen, room: &Room, lost: &[MessageId]) -> u64 {
        let missed: Vec<(Offset, bool)> = self
            .accepted
            .iter()
            .filter(|(id, (of, _))| of == room && !seen.messages.contains_key(id))
            .map(|(id, (_, offset))| (*offset, lost.contains(id)))
            .collect();
        let gaps: Vec<(Option<Offset>, Offset)> = seen
            .gaps
            .iter()
            .filter(|(of, ..)| of == room)
            .map(|(_, above, upto)| (*above, *upto))
            .collect();
        let tells = |(above, upto): &(Option<Offset>, Offset), (offset, was_lost): &(Offset, bool)| {
            tells(*above, *upto, *offset, *was_lost)
        };
        let needless = gaps.iter().enumerate().filter(|(place, gap)| {
            let new = |message: &&(Offset, bool)| !gaps[..*place].iter().any(|before| tells(before, message));
            gap.0.is_some() && !missed.iter().filter(new).any(|message| tells(gap, message))
        });
        needless.count() as u64
    }

    fn producers_order(
        &self,
        client: usize,
        seen: &Seen,
        room: &Room,
        lost: &[MessageId],
        found: &mut Vec<Violation>,
    ) {
        for ((producer, _), sent) in self.order.iter().filter(|((_, of), _)| of == room) {
            let places = sent
                .iter()
                .filter(|id| !lost.contains(id))
                .filter_map(|id| seen.messages.get(id));
            if !places.map(|(place, ..)| *place).is_sorted() {
                let detail = format!("client {client} got messages of {producer} to {room} out of order");
                found.push(Violation {
                    promise: "producer's order",
                    detail,
                });
            }
        }
    }

    /// Where history keeps everything, it proves completeness from every cursor: who came with one, and is told of a gap,
    /// is told wrongly, whatever the gap hides. Without a cursor there is nothing to prove, and `n` keeps no history.
    fn needless_falses(client: usize, seen: &Seen, found: &mut Vec<Violation>) {
        for (room, above, upto) in &seen.gaps {
            let Some(above) = above else { continue };
            if room.as_str() == "n" {
                continue;
            }
            found.push(Violation {
                promise: "needless false",
                detail: format!("client {client} was told of a gap in {room} from {above} to {upto}"),
            });
        }
    }
}
