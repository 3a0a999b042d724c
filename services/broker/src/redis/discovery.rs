//! Asks sentinels or cluster nodes who is primary, each on a connection that is kept ([`asking`](super::asking) decides whom to
//! believe).

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{AsyncConnectionConfig, Pipeline, Value, aio::MultiplexedConnection, pipe};
use indexmap::{IndexMap, IndexSet};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{
    Mode, RedisMetrics,
    addresses::{join, split},
    asking::{Answer, HighestEpoch, Ranges, ask_all},
    classify::{Verdict, classify},
    clients::{Clients, Kind},
    reply,
    requirements::{IS_A_SENTINEL, IS_NO_CLUSTER, IS_NO_SENTINEL, field},
};
use crate::{BrokerError, Result};

/// Cluster nodes that are asked at first.
const PREFERRED_NODES: usize = 3;

/// Asks who is primary, and remembers who answered.
pub(super) struct Discovery {
    mode: Mode,
    clients: Arc<Clients>,
    /// The configured addresses.
    seeds: Vec<String>,
    /// How long one address may take.
    patience: Duration,
    connections: Mutex<IndexMap<String, MultiplexedConnection>>,
    metrics: RedisMetrics,
    /// Who gave the last good answer.
    answered: Mutex<Option<String>>,
    highest: HighestEpoch,
}

impl Discovery {
    pub(super) fn new(
        mode: Mode,
        clients: Arc<Clients>,
        seeds: Vec<String>,
        call_timeout: Duration,
        metrics: RedisMetrics,
    ) -> Self {
        Self {
            mode,
            clients,
            seeds,
            patience: call_timeout.min(Duration::from_secs(1)),
            connections: Mutex::default(),
            metrics,
            answered: Mutex::default(),
            highest: HighestEpoch::default(),
        }
    }

    /// Who holds which slots. `known`: the nodes that are in use, beside the configured ones.
    pub(super) async fn ranges(&self, known: Vec<String>) -> Result<Ranges> {
        match &self.mode {
            Mode::Standalone => Ok(vec![(u16::MAX, self.seeds.first().cloned().unwrap_or_default())]),
            Mode::Sentinel { .. } => self.ask_all(self.seeds.clone(), usize::MAX).await,
            Mode::Cluster => {
                let mut all: IndexSet<String> = self.answered.lock().clone().into_iter().collect();
                all.extend(known);
                all.extend(self.seeds.iter().cloned());
                self.ask_all(all.into_iter().collect(), PREFERRED_NODES).await
            }
        }
    }

    /// Asks the first `preferred` addresses at once, and after the grace time, or when they failed, all others.
    async fn ask_all(&self, addresses: Vec<String>, preferred: usize) -> Result<Ranges> {
        self.connections
            .lock()
            .retain(|address, _| addresses.contains(address));
        let asked = ask_all(addresses, preferred, |address| self.ask(address)).await;
        // One that does not answer gets a new connection next time.
        self.give_up(&asked.silent);
        let (address, answer) = asked.best?;
        self.highest.believe(&address, &answer, asked.unanimous)?;
        *self.answered.lock() = Some(address);
        Ok(answer.ranges)
    }

    fn give_up(&self, silent: &IndexSet<String>) {
        let mut connections = self.connections.lock();
        for address in silent {
            connections.swap_remove(address);
            self.metrics.look(false);
        }
    }

    async fn ask(&self, address: String) -> (String, Result<Answer>) {
        let asked = timeout(self.patience, self.ask_one(&address)).await;
        let answer = asked.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(format!(
                "{address} did not answer within {:?}",
                self.patience
            )))
        });
        self.metrics.look(answer.is_ok());
        if answer.is_err() {
            self.connections.lock().swap_remove(&address);
        }
        (address, answer)
    }

    async fn ask_one(&self, address: &str) -> Result<Answer> {
        match &self.mode {
            Mode::Sentinel { master } => {
                let mut commands = pipe();
                commands
                    .cmd("SENTINEL")
                    .arg("GET-MASTER-ADDR-BY-NAME")
                    .arg(master)
                    .cmd("SENTINEL")
                    .arg("MASTER")
                    .arg(master);
                let values = self.send(address, Kind::Sentinel, &commands).await;
                sentinel_answer(address, master, values)
            }
            Mode::Standalone | Mode::Cluster => {
                let mut commands = pipe();
                commands.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("INFO");
                let values = self.send(address, Kind::Server, &commands).await;
                cluster_answer(address, values)
            }
        }
    }

    /// Sends commands on the kept connection, or a new one. Each answer may be an error of the server.
    async fn send(&self, address: &str, kind: Kind, commands: &Pipeline) -> Result<Vec<Value>> {
        let failed = |error: redis::RedisError| match classify(&error, false, false) {
            Verdict::Failed { error, .. } => error,
            other => BrokerError::Unavailable(format!("{address}: {other:?}")),
        };
        let kept = self.connections.lock().get(address).cloned();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let client = self.clients.client(address, kind)?;
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.patience))
                    .set_response_timeout(Some(self.patience));
                let made = client.get_multiplexed_async_connection_with_config(&config);
                made.await.map_err(failed)?
            }
        };
        let count = commands.len();
        let values = connection.send_packed_commands(commands, 0, count).await;
        let values = values.map_err(failed)?;
        self.connections.lock().insert(address.to_owned(), connection);
        Ok(values)
    }
}

/// The first answer of a pipeline, which decides, and the second, which may be refused by access rules.
fn first_and_second(address: &str, values: Vec<Value>) -> Result<(Value, Option<Value>)> {
    let mut values = values.into_iter();
    let first = values.next().unwrap_or(Value::Nil).extract_error();
    let first = first.map_err(|error| match classify(&error, false, false) {
        Verdict::Failed { error, .. } => error,
        other => BrokerError::Unavailable(format!("{address}: {other:?}")),
    })?;
    Ok((first, values.next().and_then(|value| value.extract_error().ok())))
}

fn sentinel_answer(address: &str, master: &str, values: Result<Vec<Value>>) -> Result<Answer> {
    let answered = values.and_then(|values| first_and_second(address, values));
    let (found, state) = answered.map_err(|error| match error {
        BrokerError::Misconfigured(text) => BrokerError::Misconfigured(format!(
            "the sentinel at {address}: {text}, or, for a sentinel, redis.sentinel.user and redis.sentinel.password"
        )),
        error => of_another_kind(address, error, IS_NO_SENTINEL),
    })?;
    let Some(found) = reply::present(found) else {
        return Err(BrokerError::Misconfigured(format!(
            "the sentinel at {address} knows no master `{master}`; check redis.sentinel.master"
        )));
    };
    let [host, port] = reply::tuple(found)?;
    Ok(Answer {
        ranges: vec![(u16::MAX, join(&reply::text(host)?, &reply::text(port)?))],
        epoch: state.and_then(config_epoch),
    })
}

/// `config-epoch` in an answer of `SENTINEL MASTER`: names and values in turn.
fn config_epoch(state: Value) -> Option<u64> {
    let mut pairs = reply::array(state).ok()?.into_iter();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        if reply::text(name).is_ok_and(|name| name == "config-epoch") {
            return reply::unsigned(value).ok();
        }
    }
    None
}

fn cluster_answer(address: &str, values: Result<Vec<Value>>) -> Result<Answer> {
    let answered = values.and_then(|values| first_and_second(address, values));
    let (slots, state) = answered.map_err(|error| of_another_kind(address, error, IS_A_SENTINEL))?;
    let ranges = ranges_of(slots, address)?;
    if ranges.is_empty() {
        return Err(BrokerError::Unavailable(format!(
            "the node at {address} knows of no slots yet"
        )));
    }
    let epoch = state.and_then(|state| reply::text(state).ok());
    let epoch = epoch.and_then(|state| field(&state, "cluster_current_epoch").parse().ok());
    Ok(Answer { ranges, epoch })
}

/// The ranges in an answer of `CLUSTER SLOTS`.
fn ranges_of(answer: Value, asked: &str) -> Result<Ranges> {
    let mut ranges = Vec::new();
    for range in reply::array(answer)? {
        let mut parts = reply::array(range)?.into_iter();
        let last = parts.nth(1).map(reply::unsigned).transpose()?.unwrap_or_default();
        let Some(primary) = parts.next() else { continue };
        let mut primary = reply::array(primary)?.into_iter();
        let host = primary
            .next()
            .and_then(reply::present)
            .map(reply::text)
            .transpose()?
            .unwrap_or_default();
        let port = primary.next().map(reply::text).transpose()?.unwrap_or_default();
        // A node that does not know its own address yet means the one it was asked at.
        let host = if host.is_empty() { split(asked)?.0 } else { host };
        ranges.push((u16::try_from(last).unwrap_or(u16::MAX), join(&host, &port)));
    }
    ranges.sort();
    Ok(ranges)
}

/// A server that does not know what only a sentinel, or any server but a sentinel, can be asked is of the other kind.
fn of_another_kind(address: &str, error: BrokerError, otherwise: &str) -> BrokerError {
    match error {
        BrokerError::Misconfigured(text) if text == IS_NO_CLUSTER => {
            BrokerError::Misconfigured(format!("Redis at {address}: {text}"))
        }
        BrokerError::Misconfigured(text) => BrokerError::Misconfigured(text),
        other if other.to_string().to_lowercase().contains("unknown command") => {
            BrokerError::Misconfigured(format!("Redis at {address}: {otherwise}"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn the_epoch_of_a_sentinel_is_found_wherever_it_stands() {
        let state = Value::Array(
            ["name", "mymaster", "config-epoch", "7", "quorum", "2"]
                .map(bulk)
                .into(),
        );
        assert_eq!(config_epoch(state), Some(7));
        assert_eq!(config_epoch(Value::Array(vec![bulk("name")])), None);
    }

    #[test]
    fn a_sentinel_that_may_not_be_asked_for_its_epoch_is_believed_all_the_same() {
        let found = Value::Array(vec![bulk("10.0.0.7"), bulk("6379")]);
        let denied = redis::parse_redis_value(b"-NOPERM this user has no permissions\r\n").unwrap();
        let answer = sentinel_answer("sentinel:26379", "mymaster", Ok(vec![found, denied])).unwrap();
        assert_eq!(
            (answer.ranges, answer.epoch),
            (vec![(u16::MAX, "10.0.0.7:6379".to_owned())], None)
        );
    }
}
