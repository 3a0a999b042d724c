//! Makes a policy of a document. Every mistake is collected with its path before anything is refused.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::{
    Access, ClientEvent, Format, HistoryLimits, ListIntake, Policy, Producer, RateLimit, RoomPattern,
    RoomRule, SlowSessions, cloud_events, diagnosis,
    document::{
        ClientEventDocument, Document, HistoryDocument, ListDocument, OneOrMany, PolicyError, PolicyErrors,
        ProducerDocument, RoomDocument,
    },
    gateways,
};
use crate::{EventName, Room};

pub(super) fn parse(text: &str) -> Result<Policy, PolicyErrors> {
    let document: Option<Document> = match serde_saphyr::from_str(text) {
        Ok(document) => document,
        Err(error) => return Err(misshapen(text, &error)),
    };
    let mut builder = Builder::default();
    let mut policy = builder.policy(document.unwrap_or_default());
    if !builder.mistakes.is_empty() {
        return Err(PolicyErrors(builder.mistakes));
    }
    policy.revision = revision(text.as_bytes());
    Ok(policy)
}

/// Every mistake of a text that is no policy, those of the parts that are one included.
fn misshapen(text: &str, error: &serde_saphyr::Error) -> PolicyErrors {
    let Some((mut mistakes, rest)) = diagnosis::diagnose(text) else {
        return PolicyErrors(vec![PolicyError {
            path: String::new(),
            message: error.to_string(),
        }]);
    };
    let mut builder = Builder::default();
    builder.policy(rest);
    let others = builder.mistakes.into_iter();
    let others: Vec<_> = others
        .filter(|one| !diagnosis::is_within(&one.path, &mistakes))
        .collect();
    mistakes.extend(others);
    PolicyErrors(mistakes)
}

/// Builds one of our own documents, which have no mistakes.
pub(super) fn built(document: Document) -> Policy {
    let mut builder = Builder::default();
    let policy = builder.policy(document);
    debug_assert!(builder.mistakes.is_empty());
    policy
}

fn revision(content: &[u8]) -> Arc<str> {
    hex::encode(&Sha256::digest(content)[..8]).into()
}

#[derive(Default)]
struct Builder {
    mistakes: Vec<PolicyError>,
}

impl Builder {
    fn check<T, E: fmt::Display>(&mut self, path: impl FnOnce() -> String, value: Result<T, E>) -> Option<T> {
        value
            .map_err(|error| {
                self.mistakes.push(PolicyError {
                    path: path(),
                    message: error.to_string(),
                })
            })
            .ok()
    }

    fn check_all<T>(&mut self, value: Result<T, Vec<PolicyError>>) -> Option<T> {
        value.map_err(|mistakes| self.mistakes.extend(mistakes)).ok()
    }

    fn policy(&mut self, document: Document) -> Policy {
        let open = document.open;
        let rooms = document
            .rooms
            .into_iter()
            .enumerate()
            .filter_map(|(place, room)| self.room(&format!("rooms[{place}]"), room))
            .collect();
        let unmatched = self.unmatched(open);
        let mut producers: Vec<Arc<Producer>> = Vec::new();
        for (place, producer) in document.producers.into_iter().enumerate() {
            let path = format!("producers[{place}]");
            if producers.iter().any(|other| other.name == producer.name) {
                self.mistakes.push(PolicyError {
                    path: format!("{path}.name"),
                    message: format!(
                        "`{}` is there twice; each producer has a name of its own",
                        producer.name
                    ),
                });
            }
            producers.extend(self.producer(&path, producer));
        }
        let client_events = match document.client_events {
            Some(events) => events
                .into_iter()
                .filter_map(|(name, becomes)| self.client_event(&name, becomes))
                .collect(),
            None => self.default_client_events(),
        };
        let lists = document
            .intake
            .lists
            .into_iter()
            .enumerate()
            .filter_map(|(place, list)| self.list(&format!("intake.lists[{place}]"), list))
            .collect();
        let cloud_events = document
            .cloudevents
            .and_then(|events| self.check_all(cloud_events::checked(events.to)));
        let gateways = self
            .check_all(gateways::checked(document.gateways))
            .unwrap_or_default();
        Policy {
            gateways,
            revision: if open { "dev".into() } else { "default".into() },
            anonymous_sessions: document.anonymous.sessions,
            anonymous_producers: document.anonymous.producers,
            rooms,
            unmatched,
            producers,
            client_events,
            lists,
            cloud_events,
        }
    }

    /// Rooms without a rule: kept by default, open to who logged in, published to by producers only.
    fn unmatched(&mut self, open: bool) -> Arc<RoomRule> {
        let text = if open {
            ("anyone", "anyone")
        } else {
            ("authenticated", "nobody")
        };
        let rule = RoomDocument {
            pattern: "*".to_owned(),
            history: None,
            join: Some(text.0.to_owned()),
            publish: Some(text.1.to_owned()),
            presence: open,
            slow: None,
        };
        self.room("(rooms without a rule)", rule).unwrap_or_else(|| {
            // The pattern `*` always compiles; a rule that matches nothing would refuse everything.
            unreachable!("the built-in rule is valid")
        })
    }

    fn default_client_events(&mut self) -> IndexMap<EventName, Arc<ClientEvent>> {
        let becomes = ClientEventDocument {
            room: "all".to_owned(),
            format: None,
        };
        self.client_event("chat message", becomes).into_iter().collect()
    }

    fn room(&mut self, path: &str, room: RoomDocument) -> Option<Arc<RoomRule>> {
        let pattern = self.check(|| format!("{path}.match"), RoomPattern::new(&room.pattern));
        let access = |builder: &mut Self, field: &str, word: Option<String>, default| match word.as_deref() {
            None => Some(default),
            Some("anyone") => Some(Access::Anyone),
            Some("authenticated") => Some(Access::Authenticated),
            Some("nobody") => Some(Access::Nobody),
            Some(other) => builder.check(
                || format!("{path}.{field}"),
                Err(format!("`{other}` is not one of anyone, authenticated, nobody")),
            ),
        };
        let join = access(self, "join", room.join, Access::Authenticated);
        let publish = access(self, "publish", room.publish, Access::Nobody);
        let slow = match room.slow.as_deref() {
            None | Some("catch_up") => Some(SlowSessions::CatchUp),
            Some("latest") => Some(SlowSessions::Latest),
            Some("close") => Some(SlowSessions::Close),
            Some(other) => self.check(
                || format!("{path}.slow"),
                Err(format!("`{other}` is not one of catch_up, latest, close")),
            ),
        };
        let history = self.history(&format!("{path}.history"), room.history);
        Some(Arc::new(RoomRule {
            pattern: pattern?,
            history: history?,
            join: join?,
            publish: publish?,
            presence: room.presence,
            slow: slow?,
        }))
    }

    fn history(&mut self, path: &str, history: Option<HistoryDocument>) -> Option<HistoryLimits> {
        let Some(history) = history else {
            return Some(HistoryLimits::DEFAULT);
        };
        let age = match history.age {
            None => Some(HistoryLimits::DEFAULT.age),
            Some(text) => self.check(|| format!("{path}.age"), duration(&text)),
        };
        // The last offset of a room is remembered for 24 hours; history may not outlive it.
        let longest = Duration::from_secs(12 * 3600);
        if age.is_some_and(|age| age > longest) {
            self.mistakes.push(PolicyError {
                path: format!("{path}.age"),
                message: "at most 12h: beyond that a returning client's cursor can't be proved complete"
                    .to_owned(),
            });
        }
        let size = history.size.unwrap_or(HistoryLimits::DEFAULT.size);
        if size > 1_000_000 {
            self.mistakes.push(PolicyError {
                path: format!("{path}.size"),
                message: format!("{size} is over the limit of 1000000 messages per room"),
            });
        }
        Some(HistoryLimits {
            size,
            age: age?,
            bytes: history
                .bytes
                .map_or(HistoryLimits::DEFAULT.bytes, |bytes| bytes.as_u64()),
        })
    }

    fn producer(&mut self, path: &str, producer: ProducerDocument) -> Option<Arc<Producer>> {
        let hashes = match producer.key_sha256 {
            OneOrMany::One(hash) => vec![hash],
            OneOrMany::Many(hashes) => hashes,
        };
        let mut key_hashes = Vec::new();
        for hash in &hashes {
            let mut bytes = [0; 32];
            let decoded = hex::decode_to_slice(hash, &mut bytes)
                .map_err(|_| "must be 64 hexadecimal digits: the SHA-256 of the key (never the key itself)");
            key_hashes.extend(
                self.check(|| format!("{path}.key_sha256"), decoded)
                    .map(|()| bytes),
            );
        }
        let rooms = producer
            .rooms
            .iter()
            .enumerate()
            .filter_map(|(place, text)| {
                self.check(|| format!("{path}.rooms[{place}]"), RoomPattern::new(text))
            })
            .collect();
        let rate = self.rate(path, producer.rate.as_deref(), producer.burst);
        if producer.name.is_empty()
            || producer.name.len() > 100
            || producer.name.chars().any(char::is_control)
        {
            self.mistakes.push(PolicyError {
                path: format!("{path}.name"),
                message: "must have 1 to 100 bytes and no control characters".to_owned(),
            });
        }
        Some(Arc::new(Producer {
            name: producer.name,
            key_hashes,
            rooms,
            rate,
        }))
    }

    fn rate(&mut self, path: &str, text: Option<&str>, burst: Option<u32>) -> Option<RateLimit> {
        if burst.is_some() && text.is_none() {
            self.mistakes.push(PolicyError {
                path: format!("{path}.burst"),
                message: "a burst is part of a rate; say `rate` too, like `200/s`".to_owned(),
            });
        }
        let burst = burst.and_then(|burst| {
            let at_least_one =
                NonZeroU32::new(burst).ok_or("must be 1 or more: how many messages may come at once");
            self.check(|| format!("{path}.burst"), at_least_one)
        });
        let rate = self.check(|| format!("{path}.rate"), rate(text?))?;
        let rate = RateLimit {
            burst: burst.unwrap_or(rate.count),
            ..rate
        };
        // Beyond it nobody waits, and times would not fit into their types.
        if (rate.period / rate.count.get()).saturating_mul(rate.burst.get()) > LONGEST_REFILL {
            self.mistakes.push(PolicyError {
                path: format!("{path}.rate"),
                message: "the whole burst must be back within 365 days".to_owned(),
            });
            return None;
        }
        Some(rate)
    }

    fn client_event(
        &mut self,
        name: &str,
        becomes: ClientEventDocument,
    ) -> Option<(EventName, Arc<ClientEvent>)> {
        let path = format!("client_events.{name}");
        let event = self.check(|| path.clone(), EventName::new(name));
        if RESERVED_CLIENT_EVENTS.contains(&name) {
            self.mistakes.push(PolicyError {
                path: path.clone(),
                message: format!("`{name}` has a meaning of its own; choose another event"),
            });
        }
        let room = self.check(|| format!("{path}.room"), Room::new(&becomes.room));
        let format = becomes.format.map(|text| {
            self.check(
                || format!("{path}.format"),
                Format::new(&text, &["session", "user", "data"]),
            )
        });
        Some((
            event?,
            Arc::new(ClientEvent {
                room: room?,
                format: format.flatten(),
            }),
        ))
    }

    fn list(&mut self, path: &str, list: ListDocument) -> Option<Arc<ListIntake>> {
        if list.list.is_empty() {
            self.mistakes.push(PolicyError {
                path: format!("{path}.list"),
                message: "must name a Redis list".to_owned(),
            });
        }
        let room = self.check(|| format!("{path}.room"), Room::new(&list.room));
        let event = self.check(|| format!("{path}.event"), EventName::new(&list.event));
        let format = list
            .format
            .map(|text| self.check(|| format!("{path}.format"), Format::new(&text, &["data"])));
        Some(Arc::new(ListIntake {
            list: list.list,
            room: room?,
            event: event?,
            format: format.flatten(),
        }))
    }
}

/// Client events with a meaning of their own (DESIGN §6); policy can't give them another.
pub(crate) const RESERVED_CLIENT_EVENTS: [&str; 6] =
    ["join", "leave", "publish", "refresh", "history", "presence"];

/// The longest time in which a whole burst comes back.
const LONGEST_REFILL: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("`{text}` is not a duration like `10m`: {error}"))
}

pub(super) fn rate(text: &str) -> Result<RateLimit, String> {
    let wrong = || format!("`{text}` is not a rate like `200/s`, `1000/m` or `5000/10s`");
    let (count, period) = text.split_once('/').ok_or_else(wrong)?;
    let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
    let period = period.trim();
    let period = if period.starts_with(|character: char| character.is_ascii_digit()) {
        duration(period)
    } else {
        duration(&format!("1{period}"))
    };
    let period = period.ok().filter(|period| !period.is_zero()).ok_or_else(wrong)?;
    Ok(RateLimit {
        count,
        period,
        burst: count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(producer: &str) -> String {
        let hash = "00".repeat(32);
        let text = format!("producers: [{{name: a, key_sha256: \"{hash}\", rooms: [], {producer}}}]");
        match parse(&text) {
            Ok(policy) => format!("{:?}", policy.producers()[0].rate),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn a_burst_belongs_to_a_rate() {
        assert!(mistakes("rate: 200/s").contains("burst: 200"));
        assert!(mistakes("rate: 200/s, burst: 400").contains("burst: 400"));
        assert!(mistakes("burst: 400").starts_with("producers[0].burst: a burst is part of a rate"));
        assert!(mistakes("rate: 200/s, burst: 0").contains("must be 1 or more"));
        assert!(mistakes("rate: 1/24h, burst: 400").contains("within 365 days"));
        assert!(mistakes("rate: 1/1000000years").starts_with("producers[0].rate"));
        let both = mistakes("rate: many, burst: 0");
        assert!(
            both.contains("producers[0].rate") && both.contains("producers[0].burst"),
            "{both}"
        );
    }
}
