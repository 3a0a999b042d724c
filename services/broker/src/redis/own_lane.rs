//! A connection of a reader's own, made anew whenever it, its server, or the place of its key changes.
//!
//! Every read says whose data it read: a demoted primary answers old data without an error, so `INFO` goes in front of
//! the reads, in the same pipeline.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::{sync::watch, time::timeout};

use super::{
    RedisBroker,
    classify::{Verdict, classify},
    keys::slot,
    node::{Lane, Node, identity_command},
    reply,
    server_identity::ServerIdentity,
};
use crate::{BrokerError, Life, Result};

/// How much longer than its time a waiting read may take.
const GRACE: Duration = Duration::from_secs(1);

/// The connection, if there is one at present.
#[derive(Default)]
pub(super) struct OwnLane(Option<(Arc<Node>, Lane)>);

impl OwnLane {
    /// Whether the next use makes a new connection for this key.
    pub(super) fn is_broken(&self, broker: &RedisBroker, key: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(node, lane)| !node.is_current(lane) || !broker.topology().holds(node, slot(key)))
    }

    /// Sends commands at once on the server of a key; the last one may wait up to `block`. Answers what the commands
    /// answered, and whose data that is. It is cut off as soon as the key's slot is at another server.
    pub(super) async fn send(
        &mut self,
        broker: &RedisBroker,
        key: &str,
        commands: &redis::Pipeline,
        block: Duration,
    ) -> Result<(Vec<Value>, Life)> {
        broker.fit().await?;
        if self.is_broken(broker, key) {
            self.0 = None;
            let node = broker.topology().of_slot(slot(key)).await?;
            match node.own_lane().await {
                Ok(lane) => self.0 = Some((node, lane)),
                Err(error) => {
                    let _ = broker.topology().look().await;
                    return Err(error);
                }
            }
        }
        // Taken out: a read that is dropped on its way leaves an answer on the connection that belongs to nobody.
        let Some((node, mut lane)) = self.0.take() else {
            return Err(BrokerError::Unavailable("no connection".to_owned()));
        };
        let patience = block + broker.options().timeout.min(GRACE);
        let mut with_identity = redis::pipe();
        with_identity.add_command(identity_command());
        for command in commands.cmd_iter() {
            with_identity.add_command(command.clone());
        }
        let given_up = node.given_up(&lane);
        let moved = moved_away(broker, broker.topology().changes(), &node, slot(key));
        let answer = tokio::select! {
            biased;
            answer = timeout(patience, lane.send_all(&with_identity)) => answer,
            () = given_up => return Err(replaced(&node)),
            () = moved => return Err(replaced(&node)),
        };
        let mut values = match answer {
            Ok(Ok(values)) => values.into_iter(),
            Ok(Err(error)) => {
                let _ = broker.topology().look().await;
                return Err(match classify(&error, false, true) {
                    Verdict::Failed { error, .. } => error,
                    Verdict::Moved | Verdict::Ask(_) => {
                        broker.topology().expects_redirections(&node.address)?;
                        BrokerError::Unavailable(error.to_string())
                    }
                    _ => BrokerError::Unavailable(error.to_string()),
                });
            }
            Err(_) => {
                return Err(BrokerError::Unavailable(
                    "a read took longer than its time".to_owned(),
                ));
            }
        };
        let information = values.next().map(reply::text).transpose()?.unwrap_or_default();
        let identity = ServerIdentity::of(&information);
        if !identity.is_primary {
            node.outdate();
            let _ = broker.topology().look().await;
            return Err(replaced(&node));
        }
        self.0 = Some((node, lane));
        Ok((
            values.collect(),
            broker.topology().resolve(&identity.text()).await,
        ))
    }
}

fn replaced(node: &Node) -> BrokerError {
    BrokerError::Unavailable(format!("{} does not hold the key any more", node.address))
}

/// Ends when a slot is at another server.
async fn moved_away(broker: &RedisBroker, mut changes: watch::Receiver<u64>, node: &Node, slot: u16) {
    while broker.topology().holds(node, slot) {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
