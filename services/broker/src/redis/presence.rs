//! Who is in which room.
//!
//! `p:{p}:<room>` holds a field `<incarnation> <user>` for each user of each gateway (an empty user: the sessions without
//! one), so it is gone when the room is empty. Its version and the numbers of the statements stay beside it a little
//! longer, so that a statement that was overtaken does not bring anybody back.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use carillon_model::{Partition, Room};
use redis::Value;

use super::{RedisBroker, call::Call, reply, scripts};
use crate::{
    BrokerError, Incarnation, Life, Person, Presence, PresenceRead, PresenceStatement, PresenceVersion,
    Result, RoomPresence,
    presence::{EMPTY_PRESENCE_KEPT, PEOPLE_PER_READ, PRESENCE_KEPT},
};

#[async_trait]
impl Presence for RedisBroker {
    async fn state_presence(
        &self,
        partition: Partition,
        gateway: &Incarnation,
        number: u64,
        statements: &[PresenceStatement],
    ) -> Result<Life> {
        let names = self.presence_keys(partition, statements.iter().map(|statement| &statement.room));
        let mut call = Call::script(&scripts::STATE_PRESENCE, &names)
            .arg(gateway.as_str())
            .arg(number)
            .arg(PRESENCE_KEPT.as_secs())
            .arg(EMPTY_PRESENCE_KEPT.as_secs());
        for statement in statements {
            call = call.arg(u8::from(statement.whole)).arg(statement.people.len());
            for (person, sessions) in &statement.people {
                let sessions = sessions.map(|sessions| sessions.to_string());
                call = call
                    .arg(person.as_deref().unwrap_or_default())
                    .arg(sessions.unwrap_or_default());
            }
        }
        let identity = reply::text(self.call(call).await?)?;
        Ok(self.topology().resolve(&identity).await)
    }

    async fn read_presence(
        &self,
        partition: Partition,
        rooms: &[(Room, Option<PresenceVersion>)],
    ) -> Result<PresenceRead> {
        let names = self.presence_keys(partition, rooms.iter().map(|(room, _)| room));
        let mut call = Call::script(&scripts::READ_PRESENCE, &names).arg(PEOPLE_PER_READ);
        for (_, known) in rooms {
            call = call.arg(known.as_ref().map_or("", |version| &version.0));
        }
        let [rooms, life] = reply::tuple(self.call(call).await?)?;
        Ok(PresenceRead {
            rooms: reply::array(rooms)?
                .into_iter()
                .map(|room| reply::present(room).map(room_presence).transpose())
                .collect::<Result<_>>()?,
            life: self.topology().resolve(&reply::text(life)?).await,
        })
    }

    async fn forget_presence(&self, partition: Partition, rooms: &[Room], dead: &Incarnation) -> Result<()> {
        let names = self.presence_keys(partition, rooms);
        let call = Call::script(&scripts::FORGET_PRESENCE, &names).arg(dead.as_str());
        self.call(call).await.map(drop)
    }

    async fn living(&self, incarnations: &[Incarnation]) -> Result<Vec<bool>> {
        self.alive(incarnations).await
    }
}

impl RedisBroker {
    fn presence_keys<'a>(
        &self,
        partition: Partition,
        rooms: impl IntoIterator<Item = &'a Room>,
    ) -> Vec<String> {
        let keys = self.keys();
        rooms
            .into_iter()
            .flat_map(|room| {
                [
                    keys.presence(partition, room),
                    keys.presence_version(partition, room),
                ]
            })
            .collect()
    }
}

fn room_presence(value: Value) -> Result<RoomPresence> {
    let [version, people] = reply::tuple(value)?;
    let mut gateways: BTreeMap<Incarnation, BTreeMap<Person, u32>> = BTreeMap::new();
    let mut values = reply::array(people)?.into_iter();
    while let (Some(field), Some(sessions)) = (values.next(), values.next()) {
        let field = reply::text(field)?;
        let (gateway, person) =
            named(&field).ok_or_else(|| BrokerError::Corrupt(format!("`{field}` names nobody in a room")))?;
        let sessions = u32::try_from(reply::unsigned(sessions)?).unwrap_or(u32::MAX);
        gateways.entry(gateway).or_default().insert(person, sessions);
    }
    Ok(RoomPresence {
        version: PresenceVersion(reply::text(version)?.into()),
        gateways,
    })
}

/// Takes `<incarnation> <user>` apart. A pod's name has no `@`, an incarnation's id no blank; a user may have both.
fn named(field: &str) -> Option<(Incarnation, Person)> {
    let at = field.find('@')?;
    let blank = at + field.get(at..)?.find(' ')?;
    let (gateway, user) = (field.get(..blank)?, field.get(blank + 1..)?);
    let person = (!user.is_empty()).then(|| Arc::from(user));
    Some((Incarnation::parse(gateway)?, person))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_user_of_any_pod_is_told_apart() {
        for (pod, user) in [
            ("pod", "ann"),
            ("a pod", "b c@d e"),
            ("p", "@"),
            ("p", " "),
            ("p", "é"),
        ] {
            let gateway = Incarnation::new(pod, "0a");
            let expected = Some((gateway.clone(), Some(Arc::from(user))));
            assert_eq!(named(&format!("{gateway} {user}")), expected);
            assert_eq!(named(&format!("{gateway} ")), Some((gateway, None)));
        }
        assert_eq!(named("nobody"), None);
    }
}
