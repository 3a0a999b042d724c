//! Whether there is room for one more.

use std::sync::atomic::Ordering;

use carillon_broker::Growth;

use super::{
    Hub,
    session::{Refusal, RefusalCode},
};

impl Hub {
    /// Whether a session would be taken in at this moment. It costs nothing, so it is asked before anything is done for a
    /// client.
    pub fn admits(&self) -> Result<(), Refusal> {
        let inner = &self.0;
        if inner.draining.load(Ordering::Relaxed) {
            return Err(Refusal::new(
                RefusalCode::Draining,
                "this gateway is going; connect again to reach another",
            ));
        }
        if inner.metrics.session_count() >= inner.settings.capacity {
            let message = format!("this gateway holds {} sessions already", inner.settings.capacity);
            return Err(Refusal::new(RefusalCode::Full, message));
        }
        inner
            .memory_gate
            .ask(Growth::Session)
            .map(drop)
            .map_err(Refusal::memory_full)
    }
}
