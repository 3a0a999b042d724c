//! One call: a command or a script on the server of a key, within its time.
//!
//! It is repeated only after answers that say that nothing was executed: the slot is elsewhere, is being moved, or the
//! server is not ready. A lost answer to a write is never repeated here.
//!
//! `WAIT` follows only where a message is at stake. Routes, leases and liveness are made anew after a failover, and must
//! not stop when the replicas are away.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, ToRedisArgs, Value, cmd};
use tokio::time::{Instant, timeout_at};

use super::{
    RedisOptions,
    classify::{Verdict, classify},
    keys::slot,
    node::{Lane, Node, PooledLane},
    scripts::Script,
    topology::Topology,
};
use crate::{BrokerError, Result};

/// Redirections that are followed at once.
const FREE_REDIRECTIONS: u32 = 2;
/// Between two tries at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A call to be made.
#[derive(Debug)]
pub(super) struct Call {
    slot: u16,
    command: Cmd,
    script: Option<&'static Script>,
    /// For a script: the same call with the script's text.
    with_text: Option<Cmd>,
    writes: bool,
    urgent: bool,
}

/// The connection of an attempt.
enum Connection {
    Pooled(PooledLane),
    /// The connection that renewals and looks share.
    Control(Arc<Node>, Lane),
}

impl Connection {
    async fn of(node: &Arc<Node>, urgent: bool) -> Result<Self> {
        if urgent {
            Ok(Self::Control(Arc::clone(node), node.control_lane().await?))
        } else {
            Ok(Self::Pooled(node.lane().await?))
        }
    }

    fn lane(&mut self) -> &mut Lane {
        match self {
            Self::Pooled(lane) => lane,
            Self::Control(_, lane) => lane,
        }
    }

    /// It is broken, or has an answer outstanding that belongs to nobody.
    fn discard(self) {
        match self {
            Self::Pooled(lane) => drop(PooledLane::take(lane)),
            Self::Control(node, _) => node.forget_control(),
        }
    }
}

impl Call {
    /// A command on the server of this key.
    pub(super) fn command(name: &str, key: &str) -> Self {
        Self {
            slot: slot(key),
            command: cmd(name),
            script: None,
            with_text: None,
            writes: false,
            urgent: false,
        }
    }

    /// A script with its keys, all in one slot.
    pub(super) fn script(script: &'static Script, keys: &[String]) -> Self {
        let mut by_hash = cmd("EVALSHA");
        by_hash.arg(&script.hash).arg(keys.len());
        let mut with_text = cmd("EVAL");
        with_text.arg(&script.text).arg(keys.len());
        for key in keys {
            by_hash.arg(key);
            with_text.arg(key);
        }
        Self {
            slot: keys.first().map_or(0, |key| slot(key)),
            command: by_hash,
            script: Some(script),
            with_text: Some(with_text),
            writes: script.writes,
            urgent: false,
        }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        if let Some(with_text) = &mut self.with_text {
            with_text.arg(&argument);
        }
        self.command.arg(argument);
        self
    }

    /// The command changes something.
    pub(super) fn writing(mut self) -> Self {
        self.writes = true;
        self
    }

    /// The call goes over the connection that waits for nobody: leases and liveness must not run out because others are
    /// busy.
    pub(super) fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// Makes the call.
    pub(super) async fn run(&self, topology: &Topology, options: &RedisOptions) -> Result<Value> {
        let deadline = Instant::now() + options.timeout;
        let mut ask: Option<String> = None;
        let mut send_text = false;
        let mut pause = Duration::from_millis(5);
        let mut redirections = 0_u32;
        loop {
            let node = match &ask {
                Some(address) => topology.node(address)?,
                None => topology.of_slot(self.slot).await?,
            };
            let connected = timeout_at(deadline, Connection::of(&node, self.urgent)).await;
            let mut connection = match connected.unwrap_or_else(|_| Err(no_connection(&node))) {
                Ok(connection) => connection,
                Err(error) => {
                    // Nothing was sent. If the slot is at another server by now, that one is asked.
                    let _ = timeout_at(deadline, topology.look()).await;
                    if ask.is_none() && !topology.holds(&node, self.slot) && Instant::now() < deadline {
                        continue;
                    }
                    return Err(error);
                }
            };
            let command = if send_text {
                self.with_text.as_ref().unwrap_or(&self.command)
            } else {
                &self.command
            };
            let given_up = node.given_up(connection.lane());
            let answer = tokio::select! {
                biased;
                answer = self.attempt(connection.lane(), command, ask.take().is_some(), options) => answer,
                () = given_up => Ok(Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())),
            };
            let error = match answer {
                Ok(Ok(_)) if self.is_durable() && !node.is_current(connection.lane()) => {
                    // Between the server's answer and now it was replaced: what it took may be gone.
                    connection.discard();
                    return Err(BrokerError::Unknown(format!(
                        "{} is not a primary any more",
                        node.address
                    )));
                }
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(error) => {
                    connection.discard();
                    return Err(error);
                }
            };
            match classify(&error, self.writes, true) {
                Verdict::SendScript if !send_text && self.script.is_some() => send_text = true,
                Verdict::Ask(address) => {
                    topology.expects_redirections(&node.address)?;
                    redirections += 1;
                    ask = Some(address);
                }
                Verdict::Moved => {
                    topology.expects_redirections(&node.address)?;
                    redirections += 1;
                    topology.look().await?;
                }
                Verdict::Failed { error, broken } => {
                    let replaced = !node.is_current(connection.lane());
                    if broken {
                        connection.discard();
                    }
                    if self.writes || !replaced || Instant::now() >= deadline {
                        return Err(error);
                    }
                    // A read that was cut off because the server lost its role is asked again of its successor.
                }
                Verdict::Wait | Verdict::SendScript => {
                    // A server that is busy with itself, or moves a slot, says nothing about the connection.
                    if is_of_another_role(&error) {
                        connection.discard();
                    }
                    if Instant::now() + pause >= deadline {
                        return Err(BrokerError::Unavailable(error.to_string()));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    topology.look().await?;
                }
            }
            // While a slot moves, one or two are usual. Servers that send each other in circles are asked in peace.
            let rest = if redirections > FREE_REDIRECTIONS {
                pause
            } else {
                Duration::ZERO
            };
            if Instant::now() + rest >= deadline {
                return Err(BrokerError::Unavailable("the slot keeps moving".to_owned()));
            }
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Whether a message is at stake, so that replicas have to hold it.
    fn is_durable(&self) -> bool {
        self.script.is_some_and(|script| script.durable)
    }

    /// Sends the command, and `WAIT` behind a write where replicas are asked for. The outer error is a lost outcome.
    async fn attempt(
        &self,
        lane: &mut Lane,
        command: &Cmd,
        asking: bool,
        options: &RedisOptions,
    ) -> Result<std::result::Result<Value, RedisError>> {
        let answer = async {
            if asking {
                lane.send(&cmd("ASKING")).await?;
            }
            lane.send(command).await
        };
        let answer = answer.await;
        if self.is_durable()
            && options.wait_replicas > 0
            && answer.as_ref().is_ok_and(|answer| !refused(answer))
        {
            let milliseconds = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX) / 2;
            let mut wait = cmd("WAIT");
            wait.arg(options.wait_replicas).arg(milliseconds);
            let held = lane
                .send(&wait)
                .await
                .ok()
                .and_then(|value| super::reply::unsigned(value).ok())
                .unwrap_or(0);
            if held < u64::from(options.wait_replicas) {
                return Err(BrokerError::Unreplicated {
                    acknowledged: held,
                    asked: options.wait_replicas,
                });
            }
        }
        Ok(answer)
    }
}

/// Whether a server that was a primary is none any more.
fn is_of_another_role(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

fn no_connection(node: &Node) -> BrokerError {
    BrokerError::Unavailable(format!("no connection to {} within the time", node.address))
}

/// Whether a script's answer says that it wrote nothing. A refusal is final: there is nothing to wait for.
fn refused(answer: &Value) -> bool {
    let is_refusal = |value: &Value| matches!(value, Value::BulkString(word) if matches!(&word[..], b"full" | b"reused" | b"dead"));
    match answer {
        Value::Nil | Value::Boolean(false) | Value::Int(0) => true,
        Value::Array(parts) => parts.first().is_some_and(is_refusal),
        other => is_refusal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_writes() {
        let word = |word: &str| Value::BulkString(word.as_bytes().to_vec());
        for (answer, is_refusal) in [
            (Value::Nil, true),
            (Value::Int(0), true),
            (Value::Int(1), false),
            (word("dead"), true),
            (word("kept"), false),
            (word("overrun"), false),
            (Value::Array(vec![word("full"), Value::Int(9)]), true),
            (Value::Array(vec![word("reused"), Value::Int(0)]), true),
            (Value::Array(vec![word("appended")]), false),
        ] {
            assert_eq!(refused(&answer), is_refusal, "{answer:?}");
        }
    }
}
