use std::time::Duration;

use async_trait::async_trait;
use carillon_model::{Offset, Partition};

use super::consume_budget;
use crate::{
    FencingToken, Grant, Incarnation, LeaseName, Leases, MemoryBroker, PartitionGrant, Result,
    memory::ops::leases,
};

#[async_trait]
impl Leases for MemoryBroker {
    async fn acquire_partition(
        &self,
        partition: Partition,
        owner: &Incarnation,
        lasts: Duration,
        known: Offset,
    ) -> Result<Option<PartitionGrant>> {
        consume_budget().await;
        Ok(self
            .of_partition(partition)
            .write(|state, now| leases::acquire_partition(state, now, partition, owner, lasts, known)))
    }

    async fn acquire_list(&self, list: &str, owner: &Incarnation, lasts: Duration) -> Result<Option<Grant>> {
        consume_budget().await;
        Ok(self
            .of_list(list)
            .write(|state, now| leases::acquire_list(state, now, list, owner, lasts)))
    }

    async fn renew_lease(&self, lease: &LeaseName, token: FencingToken, lasts: Duration) -> Result<bool> {
        consume_budget().await;
        Ok(self
            .of_lease(lease)
            .write(|state, now| leases::renew_lease(state, now, lease, token, lasts)))
    }

    async fn release_lease(&self, lease: &LeaseName, token: FencingToken) -> Result<()> {
        consume_budget().await;
        self.of_lease(lease)
            .write(|state, now| leases::release_lease(state, now, lease, token));
        Ok(())
    }
}
