//! Channels that do not answer for a while.

use std::time::Duration;

use carillon_broker::Incarnation;
use tokio::time::Instant;

use crate::network::Network;

impl Network {
    /// A gateway's channel answers no dispatcher for this long.
    pub(crate) fn mute(&self, gateway: Incarnation, lasts: Duration) {
        self.mute.lock().insert(gateway, Instant::now() + lasts);
    }

    /// Ends all silence.
    pub(crate) fn unmute(&self) {
        self.mute.lock().clear();
    }

    /// Never ends for a call that was made while the channel is mute: what was sent into the silence is gone.
    pub(crate) async fn heard_of(&self, gateway: &Incarnation) {
        let mute = self
            .mute
            .lock()
            .get(gateway)
            .is_some_and(|until| Instant::now() < *until);
        if mute {
            std::future::pending::<()>().await;
        }
    }
}
