//! Names of keys, and the slots they live in.
//!
//! The hash tag is the partition, literally braced, so that all a partition needs lives in one slot and fails as one
//! (DESIGN §8). The tag of partition i is `i`, or the first of `i.1`, `i.2`, … whose slot is near i·16384/P, so that
//! neighbouring partitions share a server and all servers get their part.

use carillon_model::{Partition, PartitionCount, Room};

use crate::{BrokerError, Incarnation, LeaseName, Result};

/// Slots of a Redis Cluster.
const SLOTS: u32 = 16_384;
/// How far from its place a tag's slot may be.
const NEAR: u32 = 64;

/// Makes keys.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    tags: Vec<String>,
}

impl Keys {
    pub(super) fn new(prefix: &str, partitions: PartitionCount) -> Result<Self> {
        if prefix.contains(['{', '}']) {
            return Err(BrokerError::Misconfigured(format!(
                "redis.prefix: `{prefix}` may not contain braces; they are Redis' hash tags"
            )));
        }
        let tags = partitions
            .partitions()
            .map(|partition| tag(partition, partitions))
            .collect();
        Ok(Self {
            prefix: prefix.to_owned(),
            tags,
        })
    }

    fn of(&self, kind: &str, partition: Partition) -> String {
        let tag = self.tags.get(partition.index()).map_or("", String::as_str);
        format!("{}{kind}:{{{tag}}}", self.prefix)
    }

    pub(super) fn queue(&self, partition: Partition) -> String {
        self.of("q", partition)
    }

    pub(super) fn run(&self, partition: Partition) -> String {
        self.of("run", partition)
    }

    pub(super) fn tries(&self, partition: Partition) -> String {
        self.of("tries", partition)
    }

    /// Gateways whose channels did not get what was acknowledged.
    pub(super) fn park(&self, partition: Partition) -> String {
        self.of("park", partition)
    }

    pub(super) fn letters(&self, partition: Partition) -> String {
        self.of("dlq", partition)
    }

    /// Which dead letter came from where.
    pub(super) fn letter_sources(&self, partition: Partition) -> String {
        self.of("dlq.sources", partition)
    }

    pub(super) fn idempotency(&self, partition: Partition, producer: &str, key: &str) -> String {
        format!(
            "{}:{}:{producer}:{key}",
            self.of("idem", partition),
            producer.len()
        )
    }

    pub(super) fn history(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("h", partition))
    }

    /// The bytes a history holds.
    pub(super) fn history_bytes(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("hb", partition))
    }

    pub(super) fn last(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("l", partition))
    }

    pub(super) fn routes(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("r", partition))
    }

    /// Who is in a room: incarnation and user → sessions.
    pub(super) fn presence(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("p", partition))
    }

    /// The version of that, and each gateway's last statement.
    pub(super) fn presence_version(&self, partition: Partition, room: &Room) -> String {
        format!("{}:{room}", self.of("pv", partition))
    }

    /// A pattern of Redis that all keys of routes match.
    pub(super) fn all_routes(&self) -> String {
        let mut pattern = String::new();
        for character in self.prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + "r:{*}:*"
    }

    /// The room whose routes a key holds.
    pub(super) fn room_of_routes(&self, key: &str) -> Option<Room> {
        let rest = key.strip_prefix(&self.prefix)?.strip_prefix("r:{")?;
        let (_, room) = rest.split_once("}:")?;
        Room::new(room).ok()
    }

    pub(super) fn lease(&self, lease: &LeaseName) -> String {
        match lease {
            LeaseName::Partition(partition) => self.of("lease", *partition),
            LeaseName::List(list) => self.of_list("lease", list),
        }
    }

    /// A list's own keys share its slot.
    pub(super) fn of_list(&self, kind: &str, list: &str) -> String {
        format!("{}list.{kind}:{{{}}}", self.prefix, hash_tag(list))
    }

    pub(super) fn alive(&self, incarnation: &Incarnation) -> String {
        format!("{}alive:{{{incarnation}}}", self.prefix)
    }

    /// Of a process that left in order.
    pub(super) fn left(&self, incarnation: &Incarnation) -> String {
        format!("{}alive:{{{incarnation}}}.left", self.prefix)
    }

    pub(super) fn channel(&self, incarnation: &Incarnation) -> String {
        format!("{}gw:{{{incarnation}}}", self.prefix)
    }

    /// How many bytes a channel took, and how many were read.
    pub(super) fn channel_account(&self, incarnation: &Incarnation) -> String {
        format!("{}gw.account:{{{incarnation}}}", self.prefix)
    }

    pub(super) fn members(&self) -> String {
        format!("{}members", self.prefix)
    }

    pub(super) fn policy(&self) -> String {
        format!("{}policy", self.prefix)
    }

    pub(super) fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }
}

fn tag(partition: Partition, partitions: PartitionCount) -> String {
    let place = u32::from(partition.0) * SLOTS / u32::from(partitions.get());
    let near = |tag: &String| {
        let slot = u32::from(slot(tag));
        slot >= place && slot < place + NEAR
    };
    let plain = partition.to_string();
    if near(&plain) {
        return plain;
    }
    // One in 256 is near, so this ends soon; a tag that is not near would only be less even.
    (1..100_000)
        .map(|number| format!("{partition}.{number}"))
        .find(near)
        .unwrap_or(plain)
}

/// The part of a key that decides on its slot (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
fn hash_tag(key: &str) -> &str {
    key.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty())
        .unwrap_or(key)
}

/// The slot of a key.
pub(super) fn slot(key: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hash_tag(key).as_bytes()) % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_partition_is_in_one_slot_and_partitions_are_spread_evenly() {
        for count in [1, 3, 64, 1024] {
            let count = PartitionCount::new(count).unwrap();
            let keys = Keys::new("carillon:", count).unwrap();
            for partition in count.partitions() {
                let room = Room::new("lobby {x} y").unwrap();
                let slots = [
                    keys.queue(partition),
                    keys.history(partition, &room),
                    keys.routes(partition, &room),
                    keys.presence(partition, &room),
                    keys.presence_version(partition, &room),
                    keys.idempotency(partition, "billing", "{1}"),
                    keys.lease(&LeaseName::Partition(partition)),
                ]
                .map(|key| slot(&key));
                assert!(
                    slots.iter().all(|other| *other == slots[0]),
                    "{partition}: {slots:?}"
                );
                let place = u32::from(partition.0) * SLOTS / u32::from(count.get());
                assert!((place..place + NEAR).contains(&u32::from(slots[0])));
            }
        }
    }

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(
            slot("foo{}{bar}"),
            crc16::State::<crc16::XMODEM>::calculate(b"foo{}{bar}") % 16_384
        );
    }

    #[test]
    fn a_list_and_its_state_share_a_slot() {
        let keys = Keys::new("carillon:", PartitionCount::new(8).unwrap()).unwrap();
        for list in ["message", "{jobs}:in", "a{b}c"] {
            assert_eq!(slot(list), slot(&keys.of_list("pending", list)), "{list}");
        }
    }
}
