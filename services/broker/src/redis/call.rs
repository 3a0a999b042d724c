//! One call: a command or a script on the server of a key, within its time.
//!
//! It is repeated only after answers that say that nothing was executed: the slot is elsewhere, is being moved, or the
//! server is not ready. A lost answer is never repeated here.

use std::time::Duration;

use redis::{Cmd, RedisError, ToRedisArgs, Value, cmd};
use tokio::time::Instant;

use super::{
    RedisOptions,
    classify::{Verdict, classify},
    keys::slot,
    node::{Lane, PooledLane},
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
            let mut lane = match node.lane().await {
                Ok(lane) => lane,
                Err(error) => {
                    // It may be primary no more: the next call shall know.
                    let _ = topology.look().await;
                    return Err(error);
                }
            };
            let command = if send_text {
                self.with_text.as_ref().unwrap_or(&self.command)
            } else {
                &self.command
            };
            let answer = self
                .attempt(&mut lane, command, ask.take().is_some(), options)
                .await;
            let error = match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(error) => {
                    let _ = PooledLane::take(lane);
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
                    if broken {
                        let _ = PooledLane::take(lane);
                    }
                    return Err(error);
                }
                Verdict::Wait | Verdict::SendScript => {
                    let _ = PooledLane::take(lane);
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
        if self.writes && options.wait_replicas > 0 && answer.is_ok() {
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
                return Err(BrokerError::Unknown(format!(
                    "{held} replicas hold it, {} were asked for (redis.wait_replicas)",
                    options.wait_replicas
                )));
            }
        }
        Ok(answer)
    }
}
