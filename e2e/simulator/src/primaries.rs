//! Whom a process takes for primary, and how it finds out: by the product's own way of asking
//! ([`ask_all`](carillon_broker::redis::ask_all)).
//!
//! Where a server loses its role, everything that waits on it is cut off. This is a model of the broker's topology, which
//! can't be run without sockets.

use std::{future::pending, sync::Arc, time::Duration};

use carillon_broker::{
    BrokerError, Life, Result,
    redis::{Answer, HighestEpoch, ask_all},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use crate::{
    connections::{Connections, Reached, lost},
    seeds::Seeds,
};

/// How long an address or a server may take to say who is primary, and any call to be answered.
const PATIENCE: Duration = Duration::from_millis(400);

/// What a process knows of the primaries of all servers.
#[derive(Debug)]
pub(crate) struct Primaries {
    highest: HighestEpoch,
    known: Mutex<Vec<Primary>>,
    changed: Vec<Notify>,
}

#[derive(Clone, Debug, Default)]
struct Primary {
    run_id: Option<Arc<str>>,
    /// Grows with every other primary; what was connected before is given up.
    generation: u64,
    /// What its data was called when it last answered.
    life: Option<Life>,
}

impl Primaries {
    /// Nothing is known.
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            highest: HighestEpoch::default(),
            known: Mutex::new(vec![Primary::default(); servers]),
            changed: (0..servers).map(|_| Notify::new()).collect(),
        }
    }

    /// Another one with each other primary of a server.
    pub(crate) fn generation(&self, server: usize) -> u64 {
        self.known.lock()[server].generation
    }

    /// Ends when what was connected in a generation is given up.
    async fn given_up(&self, server: usize, generation: u64) {
        loop {
            let changed = self.changed[server].notified();
            if self.generation(server) != generation {
                return;
            }
            changed.await;
        }
    }
}

impl Connections {
    /// Asks who is primary. Where no address tells, every connection leads to the present one.
    pub(crate) async fn discover(&self) -> Result<()> {
        let Some(seeds) = &self.network.seeds else {
            return Ok(());
        };
        let mut addresses = Seeds::addresses();
        if self.network.manners.one_address_asked {
            addresses.truncate(1);
        }
        let asked = ask_all(addresses, usize::MAX, |address| self.ask(seeds, address)).await;
        let (address, answer) = asked.best?;
        self.primaries
            .highest
            .believe(&address, &answer, asked.unanimous)?;
        for (server, run_id) in &answer.ranges {
            self.adopt(usize::from(*server), run_id);
        }
        Ok(())
    }

    async fn ask(&self, seeds: &Seeds, address: String) -> (String, Result<Answer>) {
        let answered = timeout(PATIENCE, async {
            self.step().await;
            let Some(answer) = seeds.answer(&address) else {
                return pending().await;
            };
            self.step().await;
            answer
        });
        let answer = answered.await;
        let silent = |_| BrokerError::Unavailable(format!("{address} did not answer"));
        let answer = answer.map_err(silent);
        (address, answer)
    }

    fn adopt(&self, server: usize, run_id: &str) {
        let mut known = self.primaries.known.lock();
        let primary = &mut known[server];
        if primary.run_id.as_deref() == Some(run_id) {
            return;
        }
        *primary = Primary {
            run_id: Some(run_id.into()),
            generation: primary.generation + 1,
            life: None,
        };
        drop(known);
        self.forget_connections(server);
        self.primaries.changed[server].notify_waiters();
    }

    /// The process that holds a server's data, as last seen.
    pub(crate) async fn primary(&self, server: usize) -> Result<Arc<str>> {
        let known = || self.primaries.known.lock()[server].run_id.clone();
        if let Some(run_id) = known() {
            return Ok(run_id);
        }
        self.discover().await?;
        known().ok_or_else(|| lost(false))
    }

    /// Waits for an answer that does not come: until its time is over, or until the server is given up.
    pub(crate) async fn unanswered(&self, server: usize) {
        let generation = self.primaries.generation(server);
        let _ = timeout(PATIENCE, self.primaries.given_up(server, generation)).await;
    }

    /// Looks who is primary, and asks each who it is, all at once. One that does not answer keeps the name it had.
    pub(crate) async fn survey(&self) -> Result<(Vec<Life>, Option<BrokerError>)> {
        let mut lives = Vec::new();
        if self.network.seeds.is_none() {
            for server in 0..self.network.servers.servers() {
                lives.push(self.look(server).await?.0);
            }
            return Ok((lives, None));
        }
        let mut problem = self.discover().await.err();
        let (first, second) = tokio::join!(self.look(0), self.look(1));
        for (server, look) in [first, second].into_iter().enumerate() {
            let kept = &mut self.primaries.known.lock()[server].life;
            match look {
                Ok((life, _)) => *kept = Some(life),
                Err(error) => problem = problem.or(Some(error)),
            }
            match kept {
                Some(life) => lives.push(life.clone()),
                None => return Err(problem.unwrap_or_else(|| lost(false))),
            }
        }
        Ok((lives, problem))
    }

    /// Asks the server that is known as primary who it is.
    pub(crate) async fn identify(&self, server: usize, lane: usize) -> Result<Life> {
        self.step().await;
        let life = match self.reach(server, lane, false).await? {
            Reached::Silent => {
                self.unanswered(server).await;
                self.break_lane(server, lane);
                return Err(lost(false));
            }
            Reached::Answers(happened) => self
                .network
                .life_at(server, happened)
                .ok_or_else(|| lost(false))?,
        };
        self.step().await;
        Ok(life)
    }
}
