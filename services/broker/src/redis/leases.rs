//! Leases of partitions and lists.

use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Offset, Partition};

use super::{RedisBroker, call::Call, queue::milliseconds, reply, scripts};
use crate::{FencingToken, Grant, Incarnation, LeaseName, Leases, PartitionGrant, Result};

#[async_trait]
impl Leases for RedisBroker {
    async fn acquire_partition(
        &self,
        partition: Partition,
        owner: &Incarnation,
        lasts: Duration,
        known: Offset,
    ) -> Result<Option<PartitionGrant>> {
        let keys = self.keys();
        let names = [
            keys.lease(&LeaseName::Partition(partition)),
            keys.queue(partition),
            keys.run(partition),
        ];
        let call = Call::script(&scripts::ACQUIRE_PARTITION, &names)
            .arg(owner.as_str())
            .arg(milliseconds(lasts))
            .arg(known.to_string());
        let Some(granted) = reply::present(self.call(call).await?) else {
            return Ok(None);
        };
        let [token, stand] = reply::tuple(granted)?;
        let state = self.partition_state(stand).await?;
        let token = FencingToken(reply::unsigned(token)?);
        Ok(Some(PartitionGrant {
            token,
            life: state.life,
            handled: state.handled,
        }))
    }

    async fn acquire_list(&self, list: &str, owner: &Incarnation, lasts: Duration) -> Result<Option<Grant>> {
        let keys = self.keys();
        let names = [
            keys.lease(&LeaseName::List(list.to_owned())),
            keys.of_list("state", list),
        ];
        let call = Call::script(&scripts::ACQUIRE_LIST, &names)
            .arg(owner.as_str())
            .arg(milliseconds(lasts));
        let granted = reply::present(self.call(call).await?);
        granted
            .map(|token| {
                Ok(Grant {
                    token: FencingToken(reply::unsigned(token)?),
                })
            })
            .transpose()
    }

    async fn renew_lease(&self, lease: &LeaseName, token: FencingToken, lasts: Duration) -> Result<bool> {
        let names = [self.keys().lease(lease)];
        let call = Call::script(&scripts::RENEW_LEASE, &names)
            .arg(token.0)
            .arg(milliseconds(lasts))
            .urgent();
        Ok(reply::number(self.call(call).await?)? == 1)
    }

    async fn release_lease(&self, lease: &LeaseName, token: FencingToken) -> Result<()> {
        let names = [self.keys().lease(lease)];
        self.call(Call::script(&scripts::RELEASE_LEASE, &names).arg(token.0))
            .await
            .map(drop)
    }
}
