//! Where other gateways are reached: what membership says, kept between two looks at it.

use std::time::Duration;

use carillon_broker::{Member, Membership, ServiceKind, SharedBroker};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Hub;

/// Between two looks at least, whatever clients ask for: each costs a call, and one per gateway.
const AGAIN: Duration = Duration::from_secs(1);

/// The other gateways, as last seen.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Pods and addresses, in membership's order.
    seen: Mutex<Vec<(String, String)>>,
    /// When somebody looked because one was not known. Whoever comes meanwhile waits for that look.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Peers {
    /// Membership was read anyway.
    pub(super) fn see(&self, members: &[Member]) {
        let reachable = members.iter().filter(|member| !member.address.is_empty());
        *self.seen.lock() = reachable
            .map(|member| (member.incarnation.pod().to_owned(), member.address.clone()))
            .collect();
    }

    /// The address (`host:port`) of the gateway whose pod's name is the one looked for. One that has only just
    /// come is looked for in membership; `None`: there is none, the broker does not answer, or somebody looked a moment
    /// ago.
    pub(super) async fn find(&self, broker: &SharedBroker, is_it: impl Fn(&str) -> bool) -> Option<String> {
        if let Some(known) = self.known(&is_it) {
            return Some(known);
        }
        let mut looked = self.looked.lock().await;
        if let Some(known) = self.known(&is_it) {
            return Some(known);
        }
        if looked.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        let members = Membership::members(&**broker, ServiceKind::Gateway).await;
        *looked = Some(Instant::now());
        match members {
            Ok(members) => self.see(&members),
            // Whoever reports this gateway's own state meets the same error and tells of it.
            Err(error) => tracing::debug!(%error, "cannot look for another gateway"),
        }
        self.known(&is_it)
    }

    /// The same, without a look.
    pub(super) fn known(&self, is_it: &impl Fn(&str) -> bool) -> Option<String> {
        let seen = self.seen.lock();
        let mut newest_first = seen.iter().rev();
        newest_first
            .find(|(pod, _)| is_it(pod))
            .map(|(_, address)| address.clone())
    }
}

impl Hub {
    /// Where the gateway is reached (`host:port`) whose pod's name is the one looked for, as far as is known.
    pub fn known_gateway(&self, is_it: impl Fn(&str) -> bool) -> Option<String> {
        self.0.peers.known(&is_it)
    }

    /// As [`Hub::known_gateway`]; one that has only just come is looked for in membership. Only for names that a gateway
    /// gave: looking costs calls of the broker, and is done once a second at most.
    pub async fn find_gateway(&self, is_it: impl Fn(&str) -> bool) -> Option<String> {
        self.0.peers.find(&self.0.broker, is_it).await
    }
}
