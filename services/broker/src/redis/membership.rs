//! Who is alive.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use super::{RedisBroker, call::Call, queue::milliseconds, reply};
use crate::{
    BrokerError, Health, Incarnation, Member, MemberList, Membership, ProcessState, Result, ServiceKind,
    membership::LEFT_FOR,
};

#[async_trait]
impl Membership for RedisBroker {
    async fn register(&self, member: &Member, alive_for: Duration) -> Result<()> {
        let alive = self.keys().alive(&member.incarnation);
        // The life before the index, or whoever reads the index in between takes the process for dead.
        let set = Call::command("SET", &alive)
            .arg(&alive)
            .arg(1)
            .arg("PX")
            .arg(milliseconds(alive_for))
            .writing();
        self.call(set).await?;
        self.list_member(member).await
    }

    async fn register_again(&self, member: &Member, alive_for: Duration, former: &Incarnation) -> Result<()> {
        self.register(member, alive_for).await?;
        self.leave_in_order(former).await
    }

    async fn renew(&self, incarnation: &Incarnation, alive_for: Duration) -> Result<bool> {
        let alive = self.keys().alive(incarnation);
        let renew = Call::command("PEXPIRE", &alive)
            .arg(&alive)
            .arg(milliseconds(alive_for))
            .writing()
            .urgent();
        Ok(reply::number(self.call(renew).await?)? == 1)
    }

    async fn report(&self, member: &Member) -> Result<()> {
        if self.is_alive(&member.incarnation).await? {
            self.list_member(member).await?;
        }
        Ok(())
    }

    async fn deregister(&self, incarnation: &Incarnation) -> Result<()> {
        // A server may have been replaced since the last look. What may still be lost, or is owed a marker, nobody else knows.
        let looked = Health::lives(self, None).await.is_ok();
        let losses = &self.shared.losses;
        if looked && losses.unsettled().is_empty() && losses.remembered() == 0 {
            // Before it is dead, so that it is at no time neither of the two.
            self.leave_in_order(incarnation).await?;
        }
        let alive = self.keys().alive(incarnation);
        self.call(Call::command("DEL", &alive).arg(&alive).writing())
            .await?;
        self.forget(incarnation).await
    }

    async fn list_members(&self, kind: ServiceKind) -> Result<MemberList> {
        let key = self.keys().members();
        let listed = reply::array(self.call(Call::command("HVALS", &key).arg(&key)).await?)?;
        let mut members = Vec::new();
        for value in listed {
            // What another version wrote and this one can't read is not its business.
            members.extend(serde_json::from_slice::<Member>(&reply::bytes(value)?).ok());
        }
        let listed = members
            .iter()
            .map(|member| (member.kind, member.incarnation.clone()))
            .collect();
        members.retain(|member| member.kind == kind);
        members.sort_by(|a, b| a.incarnation.cmp(&b.incarnation));
        let alive = self
            .alive(members.iter().map(|member| &member.incarnation))
            .await?;
        let mut living = Vec::new();
        for (member, alive) in members.into_iter().zip(alive) {
            if alive {
                living.push(member);
            } else {
                self.forget(&member.incarnation).await?;
            }
        }
        Ok(MemberList { living, listed })
    }

    async fn process_states(&self, incarnations: &[Incarnation]) -> Result<Vec<ProcessState>> {
        let alive = self.alive(incarnations).await?;
        let states = incarnations
            .iter()
            .zip(alive)
            .map(|(incarnation, alive)| async move {
                if alive {
                    return Ok(ProcessState::Alive);
                }
                let left = self.exists(&self.keys().left(incarnation)).await?;
                Ok(if left {
                    ProcessState::Left
                } else {
                    ProcessState::Dead
                })
            });
        join_all(states).await.into_iter().collect()
    }
}

impl RedisBroker {
    /// Which of these processes live, in the same order. A primary that was replaced a moment ago does not know who has
    /// registered since. So nobody is dead before it was asked who is primary, and then for the process once more.
    pub(super) async fn alive<'a>(
        &self,
        incarnations: impl IntoIterator<Item = &'a Incarnation>,
    ) -> Result<Vec<bool>> {
        let incarnations: Vec<_> = incarnations.into_iter().collect();
        let asked = incarnations.iter().map(|incarnation| self.is_alive(incarnation));
        let mut alive: Vec<bool> = join_all(asked).await.into_iter().collect::<Result<_>>()?;
        if alive.contains(&false) {
            self.find_primaries().await;
            for (incarnation, alive) in incarnations.into_iter().zip(&mut alive) {
                *alive = *alive || self.is_alive(incarnation).await?;
            }
        }
        Ok(alive)
    }

    /// Whoever can't say who is primary replaces none: then the answers that there are count.
    async fn find_primaries(&self) {
        if let Err(error) = self.topology().look().await {
            tracing::debug!(%error, "it is not known who is primary");
        }
    }

    async fn is_alive(&self, incarnation: &Incarnation) -> Result<bool> {
        self.exists(&self.keys().alive(incarnation)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(reply::number(self.call(Call::command("EXISTS", key).arg(key)).await?)? == 1)
    }

    async fn leave_in_order(&self, incarnation: &Incarnation) -> Result<()> {
        let left = self.keys().left(incarnation);
        let set = Call::command("SET", &left)
            .arg(&left)
            .arg(1)
            .arg("PX")
            .arg(milliseconds(LEFT_FOR))
            .writing();
        self.call(set).await.map(drop)
    }

    async fn list_member(&self, member: &Member) -> Result<()> {
        let key = self.keys().members();
        let text = serde_json::to_vec(member).map_err(|error| BrokerError::Corrupt(error.to_string()))?;
        let set = Call::command("HSET", &key)
            .arg(&key)
            .arg(member.incarnation.as_str())
            .arg(text)
            .writing();
        self.call(set).await.map(drop)
    }

    /// Removes what is left of a dead process: its channel and its place in the index.
    async fn forget(&self, incarnation: &Incarnation) -> Result<()> {
        let (channel, account) = (
            self.keys().channel(incarnation),
            self.keys().channel_account(incarnation),
        );
        self.call(
            Call::command("DEL", &channel)
                .arg(&channel)
                .arg(&account)
                .writing(),
        )
        .await?;
        let key = self.keys().members();
        self.call(
            Call::command("HDEL", &key)
                .arg(&key)
                .arg(incarnation.as_str())
                .writing(),
        )
        .await
        .map(drop)
    }
}
