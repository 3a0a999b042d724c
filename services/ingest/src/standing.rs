//! Where this process stands, for those who wait for it to change: streams, and who watches the health by gRPC.

use tokio::sync::watch;

/// Whether messages can be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The broker was not looked at yet, or can't be used.
    #[default]
    NotReady,
    /// They can.
    Ready,
    /// The process is ending; it never becomes ready again.
    Draining,
}

/// Tells everybody where the process stands.
#[derive(Debug, Default)]
pub(crate) struct Stands(watch::Sender<Standing>);

impl Stands {
    pub(crate) fn ready(&self, ready: bool) {
        let now = if ready {
            Standing::Ready
        } else {
            Standing::NotReady
        };
        self.0.send_if_modified(|standing| {
            let changed = *standing != Standing::Draining && *standing != now;
            if changed {
                *standing = now;
            }
            changed
        });
    }

    pub(crate) fn draining(&self) {
        self.0.send_replace(Standing::Draining);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }
}

/// Waits until the process is ending.
pub(crate) async fn drained(standing: &mut watch::Receiver<Standing>) {
    let gone = standing
        .wait_for(|standing| *standing == Standing::Draining)
        .await
        .is_err();
    if gone {
        // The service is gone without a drain, as in tests; nobody waits for its streams.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_for_good() {
        let stands = Stands::default();
        let mut standing = stands.subscribe();
        stands.ready(true);
        assert_eq!(*standing.borrow_and_update(), Standing::Ready);
        stands.draining();
        stands.ready(true);
        drained(&mut standing).await;
        assert_eq!(*standing.borrow(), Standing::Draining);
    }
}
