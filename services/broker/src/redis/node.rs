//! One server's connections: a pool for calls, one connection that renewals and looks share, and those of readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, Object, Pool, RecycleError, RecycleResult};
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, RedisError, Value, aio::MultiplexedConnection, cmd,
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    RedisMetrics,
    classify::{Verdict, classify},
    reply,
    requirements::{IS_A_SENTINEL, field},
    server_identity::ServerIdentity,
};
use crate::{BrokerError, Result};

/// What all nodes have in common.
pub(super) struct NodeOptions {
    pub(super) connections: usize,
    pub(super) timeout: Duration,
    pub(super) metrics: RedisMetrics,
}

/// A connection to a primary. It never spans two processes.
#[derive(Clone)]
pub(super) struct Lane {
    connection: MultiplexedConnection,
    /// The process at the other end.
    pub(super) run_id: Arc<str>,
    client_id: i64,
    generation: u64,
    batch: u64,
    metrics: RedisMetrics,
}

impl Lane {
    /// Sends one command and waits for its answer.
    pub(super) async fn send(&mut self, command: &Cmd) -> std::result::Result<Value, RedisError> {
        let sent = Instant::now();
        let answer = self.connection.send_packed_command(command).await;
        self.metrics.call(sent.elapsed());
        answer.and_then(Value::extract_error)
    }

    /// Sends several commands at once, the last of which may wait for something to come, and waits for all answers.
    pub(super) async fn send_all(
        &mut self,
        commands: &redis::Pipeline,
    ) -> std::result::Result<Vec<Value>, RedisError> {
        let count = commands.len();
        let values = self.connection.send_packed_commands(commands, 0, count).await;
        self.metrics.read();
        values?.into_iter().map(Value::extract_error).collect()
    }
}

/// A server.
pub(super) struct Node {
    pub(super) address: Arc<str>,
    pool: Pool<Connector>,
    control: tokio::sync::Mutex<Option<Lane>>,
    /// The control connection did not answer: what was made with it is not trusted any more.
    control_failed: AtomicBool,
    generation: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Node").field(&self.address).finish()
    }
}

pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    generation: Arc<watch::Sender<u64>>,
    /// Connections of an older batch are not used again, but what waits on one of them goes on waiting.
    batch: AtomicU64,
    /// The process that the newest connection reached.
    run_id: Mutex<Option<Arc<str>>>,
    metrics: RedisMetrics,
}

impl managed::Manager for Connector {
    type Type = Lane;
    type Error = RedisError;

    async fn create(&self) -> std::result::Result<Lane, RedisError> {
        self.connect(Some(self.timeout)).await
    }

    /// No ping: it would cost a round trip per call, and proves nothing about the next one.
    async fn recycle(&self, lane: &mut Lane, _: &Metrics) -> RecycleResult<RedisError> {
        if lane.generation == *self.generation.borrow() && lane.batch == self.batch.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(RecycleError::message(
                "the server restarted, did not answer, or is not a primary any more",
            ))
        }
    }
}

impl Connector {
    async fn connect(&self, response: Option<Duration>) -> std::result::Result<Lane, RedisError> {
        let made = self.try_to_connect(response).await;
        self.metrics.connection(made.is_ok());
        if made.as_ref().is_err_and(RedisError::is_connection_refusal) {
            // Nobody is there any more. What is sent on an older connection would have an outcome that nobody knows.
            self.batch.fetch_add(1, Ordering::AcqRel);
        }
        made
    }

    async fn try_to_connect(&self, response: Option<Duration>) -> std::result::Result<Lane, RedisError> {
        let mut generation = *self.generation.borrow();
        let batch = self.batch.load(Ordering::Acquire);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(response);
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let asked = tokio::time::timeout(self.timeout, who_are_you(&mut connection)).await;
        let (information, client_id) =
            asked.map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        if field(&information, "redis_mode") == "sentinel" {
            let text = format!(
                "Redis at {}: {IS_A_SENTINEL}",
                self.client.get_connection_info().addr()
            );
            return Err(std::io::Error::other(text).into());
        }
        let identity = ServerIdentity::of(&information);
        if !identity.is_primary {
            return Err(std::io::Error::other(NOT_A_PRIMARY).into());
        }
        let run_id: Arc<str> = identity.run_id.into();
        let before = self.run_id.lock().replace(Arc::clone(&run_id));
        if before.is_some_and(|before| before != run_id) {
            // The server was started anew: nothing that was connected to the former process is of use.
            self.generation.send_modify(|generation| *generation += 1);
            generation = *self.generation.borrow();
        }
        Ok(Lane {
            connection,
            run_id,
            client_id,
            generation,
            batch,
            metrics: self.metrics.clone(),
        })
    }
}

const NOT_A_PRIMARY: &str = "the server is not a primary (yet, or any more)";
/// What is wrong where a connection does not keep to one server, and what to do.
pub(super) const SHARED_CONNECTION: &str = "one connection reached two servers or two of their connections; a proxy that \
    shares connections stands in front of Redis, connect to the server itself";

/// What a server says of itself, and which of its clients this connection is.
async fn who_are_you(
    connection: &mut MultiplexedConnection,
) -> std::result::Result<(String, i64), RedisError> {
    let mut commands = redis::pipe();
    commands
        .cmd("INFO")
        .arg("server")
        .arg("replication")
        .cmd("CLIENT")
        .arg("ID");
    let values = connection.send_packed_commands(&commands, 0, 2).await?;
    let mut values = values.into_iter().map(Value::extract_error);
    let information = values.next().unwrap_or(Ok(Value::Nil))?;
    // A server that denies it is taken for one that always says the same.
    let client_id = values
        .next()
        .and_then(std::result::Result::ok)
        .unwrap_or(Value::Nil);
    Ok((
        reply::text(information).unwrap_or_default(),
        reply::number(client_id).unwrap_or_default(),
    ))
}

/// The command behind which a reader knows from whom it reads.
pub(super) fn identity_command() -> Cmd {
    let mut command = cmd("INFO");
    command.arg("server").arg("replication");
    command
}

impl Node {
    pub(super) fn new(address: &str, client: Client, options: &NodeOptions) -> Result<Self> {
        let generation = Arc::new(watch::Sender::new(0));
        let connector = Connector {
            client,
            timeout: options.timeout,
            generation: Arc::clone(&generation),
            batch: AtomicU64::new(0),
            run_id: Mutex::default(),
            metrics: options.metrics.clone(),
        };
        let pool = Pool::builder(connector)
            .max_size(options.connections)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(options.timeout))
            .create_timeout(Some(options.timeout))
            .build()
            .map_err(|error| BrokerError::Misconfigured(error.to_string()))?;
        Ok(Self {
            address: address.into(),
            pool,
            control: tokio::sync::Mutex::default(),
            control_failed: AtomicBool::new(false),
            generation,
        })
    }

    /// A connection of the pool. An error means that nothing was sent.
    pub(super) async fn lane(&self) -> Result<Object<Connector>> {
        self.pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(error) => match classify(&error, false, false) {
                Verdict::Failed { error, .. } => error,
                other => BrokerError::Unavailable(format!("{}: {other:?}", self.address)),
            },
            other => BrokerError::Unavailable(format!(
                "no connection to {} within the time: {other}",
                self.address
            )),
        })
    }

    /// A connection of its own, for reads that wait; its answers may take as long as they like.
    pub(super) async fn own_lane(&self) -> Result<Lane> {
        self.connect(None).await
    }

    /// The connection that renewals and looks share. No call of a client and no `WAIT` is ever in front of them.
    pub(super) async fn control_lane(&self) -> Result<Lane> {
        let mut kept = self.control.lock().await;
        let failed = self.control_failed.load(Ordering::Acquire);
        if let Some(lane) = &*kept
            && !failed
            && self.is_current(lane)
        {
            return Ok(lane.clone());
        }
        *kept = None;
        let lane = self.connect(Some(self.pool.manager().timeout)).await?;
        if self.control_failed.swap(false, Ordering::AcqRel) {
            // The server answers on a new connection and did not on the old one. The others are as old and may be as dead,
            // or it only stood still for a while: what waits on them may still be answered.
            self.pool.manager().batch.fetch_add(1, Ordering::AcqRel);
        }
        *kept = Some(lane.clone());
        Ok(lane)
    }

    /// The shared connection is not to be used any more.
    pub(super) fn forget_control(&self) {
        self.control_failed.store(true, Ordering::Release);
    }

    /// A new shared connection in place of one that has ended.
    async fn new_control_lane(&self) -> Result<Lane> {
        self.forget_control();
        self.control_lane().await
    }

    async fn connect(&self, response: Option<Duration>) -> Result<Lane> {
        let made = self.pool.manager().connect(response).await;
        made.map_err(|error| match classify(&error, false, false) {
            Verdict::Failed {
                error: error @ BrokerError::Misconfigured(_),
                ..
            } => error,
            _ => BrokerError::Unavailable(format!("{}: {error}", self.address)),
        })
    }

    /// Asks the server who it is. One that is no primary any more is given up, with everybody who waits for it.
    pub(super) async fn identify(&self) -> Result<ServerIdentity> {
        let mut lane = self.control_lane().await?;
        let mut answer = who_are_you(&mut lane.connection).await;
        if answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
            lane = self.new_control_lane().await?;
            answer = who_are_you(&mut lane.connection).await;
        }
        let (information, client_id) =
            answer.map_err(|error| BrokerError::Unavailable(format!("{}: {error}", self.address)))?;
        let identity = ServerIdentity::of(&information);
        if *identity.run_id != *lane.run_id || client_id != lane.client_id {
            return Err(BrokerError::Misconfigured(format!(
                "Redis at {}: {SHARED_CONNECTION}",
                self.address
            )));
        }
        if !identity.is_primary {
            self.outdate();
            return Err(BrokerError::Unavailable(format!(
                "{}: {NOT_A_PRIMARY}",
                self.address
            )));
        }
        Ok(identity)
    }

    /// Whether a connection is still to be used.
    pub(super) fn is_current(&self, lane: &Lane) -> bool {
        lane.generation == *self.generation.borrow()
    }

    /// Gives up all connections that were made before; whoever waits on one is cut off.
    pub(super) fn outdate(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Ends when a connection is given up.
    pub(super) fn given_up(&self, lane: &Lane) -> impl Future<Output = ()> + use<> {
        let (mut generations, mine) = (self.generation.subscribe(), lane.generation);
        async move {
            if generations
                .wait_for(|generation| *generation != mine)
                .await
                .is_err()
            {
                std::future::pending().await
            }
        }
    }
}

pub(super) type PooledLane = Object<Connector>;

/// Asks a server for something that changes nothing.
pub(super) async fn ask(node: &Node, command: &Cmd) -> Result<Value> {
    // Not behind what producers wait for.
    let mut lane = node.control_lane().await?;
    let mut answer = lane.send(command).await;
    if answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
        lane = node.new_control_lane().await?;
        answer = lane.send(command).await;
    }
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => match classify(&error, false, true) {
            Verdict::Failed { error, broken } => {
                if broken {
                    node.forget_control();
                }
                Err(error)
            }
            _ => Err(BrokerError::Unavailable(error.to_string())),
        },
    }
}
