//! Who is where.

use async_trait::async_trait;
use carillon_model::Room;
use futures::future::try_join_all;
use redis::cmd;

use super::{RedisBroker, call::Call, node, reply};
use crate::{
    Broker, BrokerError, Incarnation, Inspection, Result,
    inspection::{RoomsCursor, RoomsPage},
};

#[async_trait]
impl Inspection for RedisBroker {
    async fn routes(&self, room: &Room) -> Result<Vec<Incarnation>> {
        let key = self.keys().routes(self.partitions().partition_of(room), room);
        let members = reply::array(self.call(Call::command("SMEMBERS", &key).arg(&key)).await?)?;
        let mut routes = Vec::new();
        for member in members {
            routes.extend(Incarnation::parse(&reply::text(member)?));
        }
        routes.sort();
        Ok(routes)
    }

    async fn held_rooms(&self, after: Option<&RoomsCursor>, limit: usize) -> Result<RoomsPage> {
        self.fit().await?;
        let (server, cursor) = match after {
            None => (0, "0".to_owned()),
            Some(cursor) => place(cursor)?,
        };
        let primaries = self.topology().primaries().await?;
        let Some(primary) = primaries.get(server) else {
            return Ok(RoomsPage::default());
        };
        let mut scan = cmd("SCAN");
        scan.arg(&cursor)
            .arg("MATCH")
            .arg(self.keys().all_routes())
            .arg("COUNT")
            .arg(limit.max(1));
        let [next, keys] = reply::tuple(node::ask(primary, &scan).await?)?;
        let mut rooms = Vec::new();
        for key in reply::array(keys)? {
            // What is not UTF-8 or no room is nothing of ours.
            let key = reply::text(key).unwrap_or_default();
            rooms.extend(self.keys().room_of_routes(&key));
        }
        let next = match reply::text(next)?.as_str() {
            "0" if server + 1 >= primaries.len() => None,
            "0" => Some(RoomsCursor(format!("{}:0", server + 1))),
            cursor => Some(RoomsCursor(format!("{server}:{cursor}"))),
        };
        Ok(RoomsPage { rooms, next })
    }

    async fn waiting(&self) -> Result<Vec<u64>> {
        let lengths = self.partitions().partitions().map(|partition| async move {
            let key = self.keys().queue(partition);
            let length = reply::number(self.call(Call::command("XLEN", &key).arg(&key)).await?)?;
            Ok(u64::try_from(length).unwrap_or_default())
        });
        try_join_all(lengths).await
    }
}

/// The server, by its place among the primaries, and its own cursor.
fn place(cursor: &RoomsCursor) -> Result<(usize, String)> {
    let parsed = cursor.0.split_once(':').and_then(|(server, cursor)| {
        cursor.parse::<u64>().ok()?;
        Some((server.parse().ok()?, cursor.to_owned()))
    });
    parsed.ok_or_else(|| {
        BrokerError::Misconfigured(format!(
            "`{}` is no place in the list of rooms; take the one that the page before ended with",
            cursor.0
        ))
    })
}
