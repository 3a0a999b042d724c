use std::time::Duration;

use async_trait::async_trait;

use super::consume_budget;
use crate::{
    Incarnation, Member, MemberList, Membership, MemoryBroker, ProcessState, Result, ServiceKind,
    memory::ops::membership,
};

#[async_trait]
impl Membership for MemoryBroker {
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()> {
        consume_budget().await;
        // The life before the index, or whoever reads the index in between takes the process for dead.
        self.of_incarnation(&member.incarnation)
            .write(|state, now| membership::start_life(state, now, member, alive_for))?;
        self.common()
            .write(|state, _| membership::list_member(state, member))
    }

    async fn register_again(&self, member: &Member, alive_for: Duration, former: &Incarnation) -> Result<()> {
        self.register(member, alive_for).await?;
        self.of_incarnation(former)
            .write(|state, now| membership::leave_in_order(state, now, former));
        Ok(())
    }

    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool> {
        consume_budget().await;
        Ok(self
            .of_incarnation(incarnation)
            .write(|state, now| membership::renew(state, now, incarnation, alive_for)))
    }

    async fn report(&self, member: &Member) -> Result<()> {
        consume_budget().await;
        if self.lives(&member.incarnation) {
            self.common()
                .write(|state, _| membership::list_member(state, member))?;
        }
        Ok(())
    }

    async fn deregister(&self, incarnation: &Incarnation) -> Result<()> {
        consume_budget().await;
        let server = self.of_incarnation(incarnation);
        server.write(|state, now| {
            membership::end_life(state, incarnation);
            membership::leave_in_order(state, now, incarnation);
        });
        server.wake.channels();
        self.common()
            .write(|state, _| membership::forget(state, incarnation));
        Ok(())
    }

    async fn list_members(&self, kind: ServiceKind) -> Result<MemberList> {
        consume_budget().await;
        let (mut members, listed) = self
            .common()
            .read(|state, _| (membership::listed(state, kind), membership::all_listed(state)));
        members.retain(|member| {
            let lives = self.lives(&member.incarnation);
            if !lives {
                self.of_incarnation(&member.incarnation)
                    .write(|state, _| membership::end_life(state, &member.incarnation));
                self.common()
                    .write(|state, _| membership::forget(state, &member.incarnation));
            }
            lives
        });
        Ok(MemberList {
            living: members,
            listed,
        })
    }

    async fn process_states(&self, incarnations: &[Incarnation]) -> Result<Vec<ProcessState>> {
        consume_budget().await;
        let states = incarnations.iter().map(|incarnation| {
            self.of_incarnation(incarnation)
                .read(|state, now| membership::state_of(state, now, incarnation))
        });
        Ok(states.collect())
    }
}

impl MemoryBroker {
    pub(super) fn lives(&self, incarnation: &Incarnation) -> bool {
        self.of_incarnation(incarnation)
            .read(|state, now| membership::is_alive(state, now, incarnation))
    }
}
