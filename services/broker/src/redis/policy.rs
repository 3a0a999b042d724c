//! The policy snapshot.

use async_trait::async_trait;

use super::{RedisBroker, call::Call, reply};
use crate::{PolicySnapshot, PolicyStore, Result};

#[async_trait]
impl PolicyStore for RedisBroker {
    async fn load_policy(&self) -> Result<Option<PolicySnapshot>> {
        let key = self.keys().policy();
        let call = Call::command("HMGET", &key)
            .arg(&key)
            .arg("revision")
            .arg("document");
        let [revision, document] = reply::tuple(self.call(call).await?)?;
        let (Some(revision), Some(document)) = (reply::present(revision), reply::present(document)) else {
            return Ok(None);
        };
        Ok(Some(PolicySnapshot {
            revision: reply::text(revision)?,
            document: reply::bytes(document)?,
        }))
    }

    async fn store_policy(&self, snapshot: &PolicySnapshot) -> Result<()> {
        let key = self.keys().policy();
        let call = Call::command("HSET", &key)
            .arg(&key)
            .arg("revision")
            .arg(&snapshot.revision)
            .arg("document")
            .arg(&snapshot.document[..])
            .writing();
        self.call(call).await.map(drop)
    }
}
