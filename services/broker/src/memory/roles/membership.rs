use std::time::Duration;

use async_trait::async_trait;

use super::consume_budget;
use crate::{Incarnation, Member, Membership, MemoryBroker, Result, ServiceKind, memory::ops::membership};

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
        server.write(|state, _| membership::end_life(state, incarnation));
        server.wake.channels();
        self.common()
            .write(|state, _| membership::forget(state, incarnation));
        Ok(())
    }

    async fn members(&self, kind: ServiceKind) -> Result<Vec<Member>> {
        consume_budget().await;
        let mut members = self.common().read(|state, _| membership::listed(state, kind));
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
        Ok(members)
    }
}

impl MemoryBroker {
    pub(super) fn lives(&self, incarnation: &Incarnation) -> bool {
        self.of_incarnation(incarnation)
            .read(|state, now| membership::is_alive(state, now, incarnation))
    }
}
