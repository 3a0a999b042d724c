use async_trait::async_trait;

use super::consume_budget;
use crate::{MemoryBroker, PolicySnapshot, PolicyStore, Result, memory::ops::policy};

#[async_trait]
impl PolicyStore for MemoryBroker {
    async fn load_policy(&self) -> Result<Option<PolicySnapshot>> {
        consume_budget().await;
        Ok(self.common().read(|state, _| policy::load_policy(state)))
    }

    async fn store_policy(&self, snapshot: &PolicySnapshot) -> Result<()> {
        consume_budget().await;
        self.common()
            .write(|state, _| policy::store_policy(state, snapshot));
        Ok(())
    }
}
