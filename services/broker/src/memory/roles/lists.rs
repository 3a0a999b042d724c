use async_trait::async_trait;

use super::consume_budget;
use crate::{FencingToken, Lists, MemoryBroker, Result, TakeOutcome, memory::ops::lists};

#[async_trait]
impl Lists for MemoryBroker {
    async fn take(&self, list: &str, token: FencingToken, limit: usize) -> Result<TakeOutcome> {
        consume_budget().await;
        Ok(self
            .of_list(list)
            .write(|state, now| lists::take(state, now, list, token, limit)))
    }

    async fn settle(&self, list: &str, numbers: &[u64]) -> Result<()> {
        consume_budget().await;
        self.of_list(list)
            .write(|state, _| lists::settle(state, list, numbers));
        Ok(())
    }
}
