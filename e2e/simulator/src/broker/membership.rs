//! Who is alive.

use std::time::Duration;

use async_trait::async_trait;
use carillon_broker::{
    Incarnation, Member, MemberList, Membership, ProcessState, Result, ServiceKind, memory::ops,
};

use super::SimulatedBroker;

#[async_trait]
impl Membership for SimulatedBroker {
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()> {
        let server = self.of_incarnation(&member.incarnation);
        self.0
            .write(server, |state, now| {
                ops::membership::start_life(state, now, member, alive_for)
            })
            .await??;
        self.0
            .write(0, |state, _| ops::membership::list_member(state, member))
            .await?
    }

    async fn register_again(&self, member: &Member, alive_for: Duration, former: &Incarnation) -> Result<()> {
        self.register(member, alive_for).await?;
        let server = self.of_incarnation(former);
        self.0
            .write(server, |state, now| {
                ops::membership::leave_in_order(state, now, former);
            })
            .await
    }

    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool> {
        let server = self.of_incarnation(incarnation);
        let lives = self
            .0
            .write(server, |state, now| {
                ops::membership::renew(state, now, incarnation, alive_for)
            })
            .await?;
        let long = alive_for * 2;
        let network = &self.0.network;
        if !lives
            && network.seeds.is_some()
            && self.0.condition.runs_for(long)
            && network.slot(server).standing.stands_for(long)
        {
            network.died_needlessly(incarnation);
        }
        Ok(lives)
    }

    async fn report(&self, member: &Member) -> Result<()> {
        let server = self.of_incarnation(&member.incarnation);
        let incarnation = &member.incarnation;
        if self
            .0
            .read(server, |state, now| {
                ops::membership::is_alive(state, now, incarnation)
            })
            .await?
        {
            self.0
                .write(0, |state, _| ops::membership::list_member(state, member))
                .await??;
        }
        Ok(())
    }

    async fn deregister(&self, incarnation: &Incarnation) -> Result<()> {
        let server = self.of_incarnation(incarnation);
        self.0
            .write(server, |state, now| {
                ops::membership::end_life(state, incarnation);
                ops::membership::leave_in_order(state, now, incarnation);
            })
            .await?;
        self.0
            .write(0, |state, _| ops::membership::forget(state, incarnation))
            .await
    }

    async fn list_members(&self, kind: ServiceKind) -> Result<MemberList> {
        let (members, listed) = self
            .0
            .read(0, |state, _| {
                (
                    ops::membership::listed(state, kind),
                    ops::membership::all_listed(state),
                )
            })
            .await?;
        let mut alive = Vec::new();
        for member in members {
            let server = self.of_incarnation(&member.incarnation);
            let incarnation = &member.incarnation;
            if self.lives(incarnation).await? {
                alive.push(member);
            } else {
                self.0
                    .write(server, |state, now| {
                        if !ops::membership::is_alive(state, now, incarnation) {
                            ops::membership::end_life(state, incarnation);
                        }
                    })
                    .await?;
                self.0
                    .write(0, |state, _| ops::membership::forget(state, incarnation))
                    .await?;
            }
        }
        Ok(MemberList {
            living: alive,
            listed,
        })
    }

    async fn process_states(&self, incarnations: &[Incarnation]) -> Result<Vec<ProcessState>> {
        let mut states = Vec::new();
        for incarnation in incarnations {
            if self.lives(incarnation).await? {
                states.push(ProcessState::Alive);
                continue;
            }
            let server = self.of_incarnation(incarnation);
            let read = self.0.read(server, |state, now| {
                ops::membership::state_of(state, now, incarnation)
            });
            states.push(read.await?);
        }
        Ok(states)
    }
}

impl SimulatedBroker {
    /// Whether a process lives. It is not dead before it was asked who is primary, and then for the process once more.
    pub(super) async fn lives(&self, incarnation: &Incarnation) -> Result<bool> {
        let server = self.of_incarnation(incarnation);
        let asked = || {
            self.0.read(server, |state, now| {
                ops::membership::is_alive(state, now, incarnation)
            })
        };
        if asked().await? {
            return Ok(true);
        }
        self.0.find_primary(server).await;
        asked().await
    }
}
