//! What was seen of the Lease, and since when by this process' own clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Renew it, or take it.
    Lead,
    /// Leave it to its holder.
    Follow(String),
}

/// The last change of the Lease.
#[derive(Debug, Default)]
pub(super) struct Record {
    seen: Option<(String, Instant)>,
}

impl Record {
    /// Looks at the Lease as it is now.
    pub(super) fn look(&mut self, lease: &Lease, me: &str, usual: Duration, now: Instant) -> Decision {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let spec = lease.spec.as_ref();
        let holder = spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
        let duration = seconds.map_or(usual, Duration::from_secs);
        if holder.is_empty() || holder == me || now.duration_since(since) > duration {
            Decision::Lead
        } else {
            Decision::Follow(holder.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(holder: &str, version: u32) -> Lease {
        serde_json::from_value(json!({
            "metadata": { "resourceVersion": version.to_string() },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z" },
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_waits_for_the_lease_to_stand_still() {
        let (mut record, usual, start) = (Record::default(), Duration::from_secs(15), Instant::now());
        let mut look =
            |lease: &Lease, seconds| record.look(lease, "me", usual, start + Duration::from_secs(seconds));
        let follow = Decision::Follow("other".to_owned());
        assert_eq!(
            look(&lease("other", 1), 0),
            follow,
            "however old the time in it is"
        );
        assert_eq!(look(&lease("other", 2), 14), follow);
        assert_eq!(
            look(&lease("other", 2), 29),
            follow,
            "15 s since the renewal was seen, and not more"
        );
        assert_eq!(look(&lease("other", 2), 30), Decision::Lead);
        assert_eq!(look(&lease("other", 3), 31), follow, "it lives after all");
        assert_eq!(look(&lease("", 4), 31), Decision::Lead, "given up");
        assert_eq!(look(&lease("me", 5), 31), Decision::Lead);
    }
}
