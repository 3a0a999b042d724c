//! `carillon rooms`: which gateways hold a room, or which rooms are held at all.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use carillon_broker::{HistoryQuery, Incarnation, Member, RoomsCursor, ServiceKind, SharedBroker};
use carillon_chassis::run::Misconfigured;
use carillon_model::{Offset, Room};
use serde_json::json;

use super::{
    Ended, ToolArguments,
    printer::{BAD, FAINT, NAME, Printer, styled, tell},
    run,
};
use crate::broker;

/// Which rooms.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RoomsArguments {
    /// Rooms to look at, also such that nobody holds. Without one, all that are held are listed
    rooms: Vec<String>,
    /// List so many rooms
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on with the list where the page before ended
    #[arg(long, value_name = "PLACE", conflicts_with = "rooms")]
    after: Option<String>,
    #[command(flatten)]
    tool: ToolArguments,
}

pub(crate) fn rooms(arguments: RoomsArguments) -> ExitCode {
    let tool = arguments.tool.clone();
    run("carillon rooms", &tool, |settings, printer| async move {
        let mut look = Look {
            broker: broker::redis(&settings)?,
            gateways: BTreeMap::new(),
            printer,
        };
        let wrong = |error: carillon_model::room::InvalidRoom| Misconfigured(error.to_string());
        let named = arguments
            .rooms
            .iter()
            .map(Room::new)
            .collect::<Result<Vec<_>, _>>();
        let named = named.map_err(wrong)?;
        look.who_lives().await?;
        for room in &named {
            look.show(room).await?;
        }
        if named.is_empty() {
            look.list(arguments.limit, arguments.after.map(RoomsCursor))
                .await?;
        }
        Ok(Ended::Well)
    })
}

struct Look {
    broker: SharedBroker,
    gateways: BTreeMap<Incarnation, Member>,
    printer: Printer,
}

impl Look {
    async fn who_lives(&mut self) -> anyhow::Result<()> {
        let members = self.broker.members(ServiceKind::Gateway).await?;
        let named = members
            .into_iter()
            .map(|member| (member.incarnation.clone(), member));
        self.gateways = named.collect();
        Ok(())
    }

    async fn list(&self, limit: u32, mut next: Option<RoomsCursor>) -> anyhow::Result<()> {
        let limit = usize::try_from(limit)?;
        let mut shown = 0;
        loop {
            // A page may hold fewer than asked for, because Redis looks through all its keys.
            let page = self
                .broker
                .held_rooms(next.as_ref(), (limit - shown).max(10))
                .await?;
            for room in &page.rooms {
                self.show(room).await?;
            }
            shown += page.rooms.len();
            next = page.next;
            if next.is_none() || shown >= limit {
                break;
            }
        }
        match next {
            Some(RoomsCursor(place)) => self.printer.item(&json!({ "next": place }), || {
                styled(FAINT, format!("There are more: carillon rooms --after '{place}'"))
            }),
            None => {
                if shown == 0 && !self.printer.is_json() {
                    tell("No gateway holds a room; `carillon gateways` shows whether there are gateways.");
                }
                Ok(())
            }
        }
    }

    async fn show(&self, room: &Room) -> anyhow::Result<()> {
        let routes = self.broker.routes(room).await?;
        let nothing = HistoryQuery {
            after: None,
            entries: 0,
            bytes: 0,
        };
        let stand = self
            .broker
            .read_history(room, nothing)
            .await
            .context("cannot look at the room")?;
        let gateways: Vec<_> = routes
            .iter()
            .map(|route| {
                let member = self.gateways.get(route);
                json!({
                    "gateway": route.as_str(),
                    "alive": member.is_some(),
                    "address": member.map(|member| &member.address),
                    "sessions": member.map(|member| member.sessions),
                })
            })
            .collect();
        let partition = self.broker.partitions().partition_of(room);
        let object =
            json!({ "room": room, "partition": partition.0, "last": stand.last, "gateways": gateways });
        self.printer.item(&object, || {
            let last = stand.last.map_or_else(|| "no message for 24 h".to_owned(), last);
            let place = styled(FAINT, format!("partition {partition}, {last}"));
            let mut text = format!("{} {place}", styled(NAME, room));
            for route in &routes {
                text = format!("{text}\n  {}", self.holder(route));
            }
            if routes.is_empty() {
                text.push_str("\n  no gateway holds it");
            }
            text
        })
    }

    fn holder(&self, route: &Incarnation) -> String {
        match self.gateways.get(route) {
            Some(member) => format!(
                "{route} at {}, {} sessions in all",
                member.address, member.sessions
            ),
            None => format!("{route} {}", styled(BAD, "dead; removed with the next message")),
        }
    }
}

fn last(offset: Offset) -> String {
    format!("last message {offset}")
}
