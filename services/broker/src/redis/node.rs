//! One server's connections. Each remembers the life of the server it was made to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use deadpool::managed::{self, Metrics, Object, Pool, RecycleError, RecycleResult};
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, RedisError, Value, aio::MultiplexedConnection, cmd,
};

use super::{
    RedisMetrics, reply,
    requirements::{IS_A_SENTINEL, field},
};
use crate::{BrokerError, Life};

/// A connection to a primary.
#[derive(Clone)]
pub(super) struct Lane {
    connection: MultiplexedConnection,
    /// The server's life when the connection was made. A connection can't outlive it.
    pub(super) life: Life,
    generation: u64,
    metrics: RedisMetrics,
}

impl Lane {
    /// Sends one command and waits for its answer.
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let sent = Instant::now();
        let answer = self.connection.send_packed_command(command).await;
        self.metrics.call(sent.elapsed());
        answer.and_then(Value::extract_error)
    }

    /// Sends several commands at once, the last of which may wait for something to come, and waits for all answers.
    pub(super) async fn send_all(&mut self, commands: &redis::Pipeline) -> Result<Vec<Value>, RedisError> {
        let count = commands.len();
        let values = self.connection.send_packed_commands(commands, 0, count).await;
        self.metrics.read();
        values?.into_iter().map(Value::extract_error).collect()
    }
}

/// A server.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: Arc<str>,
    pool: Pool<Connector>,
    generation: Arc<AtomicU64>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Node").field(&self.address).finish()
    }
}

pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    generation: Arc<AtomicU64>,
    metrics: RedisMetrics,
}

impl managed::Manager for Connector {
    type Type = Lane;
    type Error = RedisError;

    async fn create(&self) -> Result<Lane, RedisError> {
        self.connect(Some(self.timeout)).await
    }

    /// No ping: it would cost a round trip per call, and proves nothing about the next one.
    async fn recycle(&self, lane: &mut Lane, _: &Metrics) -> RecycleResult<RedisError> {
        if lane.generation == self.generation.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(RecycleError::message(
                "the server has another life, or is primary no more",
            ))
        }
    }
}

impl Connector {
    async fn connect(&self, response: Option<Duration>) -> Result<Lane, RedisError> {
        let made = self.try_to_connect(response).await;
        self.metrics.connection(made.is_ok());
        made
    }

    async fn try_to_connect(&self, response: Option<Duration>) -> Result<Lane, RedisError> {
        let (client, timeout, generation) = (&self.client, self.timeout, &self.generation);
        let generation = generation.load(Ordering::Acquire);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(response);
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut information = cmd("INFO");
        information.arg("server").arg("replication");
        let asked = tokio::time::timeout(timeout, connection.send_packed_command(&information)).await;
        let answer =
            asked.map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        let information = reply::text(answer.extract_error()?).unwrap_or_default();
        if field(&information, "redis_mode") == "sentinel" {
            let text = format!(
                "Redis at {}: {IS_A_SENTINEL}",
                client.get_connection_info().addr()
            );
            return Err(std::io::Error::other(text).into());
        }
        let life = primary_life(&information).map_err(std::io::Error::other)?;
        Ok(Lane {
            connection,
            life,
            generation,
            metrics: self.metrics.clone(),
        })
    }
}

/// The life of a primary from its `INFO`; a replica is no place to read or write.
fn primary_life(information: &str) -> Result<Life, String> {
    if field(information, "role") != "master" {
        return Err("the server is not a primary (yet, or any more)".to_owned());
    }
    Ok(Life(
        format!(
            "{}:{}",
            field(information, "run_id"),
            field(information, "master_replid")
        )
        .into(),
    ))
}

impl Node {
    pub(super) fn new(
        address: &str,
        client: Client,
        connections: usize,
        timeout: Duration,
        metrics: RedisMetrics,
    ) -> crate::Result<Self> {
        let generation = Arc::new(AtomicU64::new(0));
        let connector = Connector {
            client,
            timeout,
            generation: Arc::clone(&generation),
            metrics,
        };
        let pool = Pool::builder(connector)
            .max_size(connections)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .build()
            .map_err(|error| BrokerError::Misconfigured(error.to_string()))?;
        Ok(Self {
            address: address.into(),
            pool,
            generation,
        })
    }

    /// A connection of the pool. An error means that nothing was sent.
    pub(super) async fn lane(&self) -> Result<Object<Connector>, BrokerError> {
        self.pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(error) => match super::classify::classify(&error, false, false) {
                super::classify::Verdict::Failed { error, .. } => error,
                other => BrokerError::Unavailable(format!("{}: {other:?}", self.address)),
            },
            other => BrokerError::Unavailable(format!(
                "no connection to {} within the time: {other}",
                self.address
            )),
        })
    }

    /// A connection of its own, for reads that wait; its answers may take as long as they like.
    pub(super) async fn own_lane(&self) -> crate::Result<Lane> {
        let connector = self.pool.manager();
        let made = connector.connect(None).await;
        made.map_err(|error| match super::classify::classify(&error, false, false) {
            super::classify::Verdict::Failed {
                error: error @ BrokerError::Misconfigured(_),
                ..
            } => error,
            _ => BrokerError::Unavailable(format!("{}: {error}", self.address)),
        })
    }

    /// Whether a connection is still of the present generation.
    pub(super) fn is_current(&self, lane: &Lane) -> bool {
        lane.generation == self.generation.load(Ordering::Acquire)
    }

    /// Gives all connections up that were made before.
    pub(super) fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

pub(super) type PooledLane = Object<Connector>;

/// Asks a server for something that changes nothing.
pub(super) async fn ask(node: &Node, command: &Cmd) -> crate::Result<Value> {
    let mut lane = node.lane().await?;
    match lane.send(command).await {
        Ok(answer) => Ok(answer),
        Err(error) => {
            drop(PooledLane::take(lane));
            match super::classify::classify(&error, false, true) {
                super::classify::Verdict::Failed { error, .. } => Err(error),
                _ => Err(BrokerError::Unavailable(error.to_string())),
            }
        }
    }
}
