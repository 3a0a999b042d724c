//! Clients that keep cursors, as in the client guide, without a socket.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_gateway::hub::{Connect, CursorNote, Hub, Identity, Outgoing, Start};
use carillon_model::Room;
use tokio::task::JoinHandle;

use crate::{audit::Audit, network::Network};

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub number: usize,
    session: Option<(usize, JoinHandle<()>)>,
    sessions: u64,
}

impl Client {
    /// Not connected yet.
    pub fn new(number: usize) -> Self {
        Self {
            number,
            session: None,
            sessions: 0,
        }
    }

    /// The gateway it is connected to.
    pub fn gateway(&self) -> Option<usize> {
        self.session.as_ref().map(|(gateway, _)| *gateway)
    }

    /// Connects with its cursors, and joins the rooms it has none for.
    pub fn connect(
        &mut self,
        gateway: usize,
        hub: &Hub,
        audit: &Arc<Audit>,
        network: &Arc<Network>,
        rooms: &[Room],
        mut random: fastrand::Rng,
    ) {
        self.sessions += 1;
        let (hub, audit, network, rooms) = (
            hub.clone(),
            Arc::clone(audit),
            Arc::clone(network),
            rooms.to_vec(),
        );
        let (number, id) = (self.number, format!("client-{}-{}", self.number, self.sessions));
        let task = tokio::spawn(async move {
            let cursors: Vec<_> = audit
                .cursors(number)
                .into_iter()
                .filter(|(room, _)| rooms.contains(room))
                .collect();
            audit.note(|| format!("client {number} connects to gateway {gateway} with {cursors:?}"));
            let unknown: Vec<Room> = rooms
                .iter()
                .filter(|room| !cursors.iter().any(|(of, _)| of == *room))
                .cloned()
                .collect();
            let connect = Connect {
                id: id.as_str().into(),
                identity: Identity::default(),
                since: cursors,
            };
            let Ok(mut handle) = hub.connect(connect).await else {
                return;
            };
            let Some(outbox) = handle.take_outbox() else {
                return;
            };
            let joins = async {
                for room in unknown {
                    let _ = handle.join(room, Start::Now).await;
                }
                std::future::pending::<()>().await;
            };
            let reads = async {
                let mut batch = VecDeque::new();
                while outbox.receive(&mut batch).await.is_ok() {
                    while let Some(outgoing) = batch.pop_front() {
                        take(number, &outgoing, &audit, &network, &rooms);
                        outbox.written(&outgoing);
                        if random.u8(..4) == 0 {
                            tokio::time::sleep(Duration::from_millis(random.u64(0..40))).await;
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = reads => {}
                () = joins => {}
            }
        });
        self.session = Some((gateway, task));
    }

    /// The connection breaks: what was not read yet is gone.
    pub fn cut(&mut self, audit: &Audit) {
        if let Some((gateway, task)) = self.session.take() {
            audit.note(|| format!("client {} is cut off from gateway {gateway}", self.number));
            task.abort();
        }
    }

    /// Whether it has a connection that was not closed.
    pub fn is_connected(&self) -> bool {
        self.session.as_ref().is_some_and(|(_, task)| !task.is_finished())
    }
}

/// The four lines.
fn take(number: usize, outgoing: &Outgoing, audit: &Audit, network: &Network, rooms: &[Room]) {
    match outgoing {
        Outgoing::Message(delivery) | Outgoing::Replayed(delivery) => {
            if rooms.contains(&delivery.room) {
                audit.note(|| {
                    format!(
                        "client {number} sees {:?} {} {}",
                        delivery.room, delivery.offset, delivery.message.id
                    )
                });
                audit.received(
                    number,
                    &delivery.room,
                    delivery.offset,
                    delivery.message.id,
                    &network.ever_lost(),
                );
            }
        }
        // No simulated room has presence.
        Outgoing::Presence(_) => {}
        Outgoing::Cursors(notes) => {
            for (room, note) in notes.iter().filter(|(room, _)| rooms.contains(room)) {
                if let CursorNote::At { offset, recovered } = note {
                    audit.note(|| format!("client {number} is told {room:?} {offset} {recovered}"));
                    audit.told(number, room, *offset, *recovered);
                }
            }
        }
    }
}
