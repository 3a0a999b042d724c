//! A broker that hangs, and how far a stream is read meanwhile.

use std::{sync::Arc, time::Duration};

use carillon_model::Partition;
use tokio::sync::Semaphore;

use crate::fixture::{Fault, Fixture, standstill, until};

/// What a stream has in hand at most: `WINDOW` in `stream.rs`.
const WINDOW: usize = 128;

/// Ingest whose broker holds one partition until it is let go.
pub(crate) struct Hanging {
    pub(crate) fixture: Fixture,
    /// A room of the partition that hangs.
    pub(crate) room: String,
    /// A room of another one.
    other: String,
    partition: Partition,
    permits: Arc<Semaphore>,
}

impl Hanging {
    pub(crate) async fn start() -> Self {
        let fixture = Fixture::with(|settings| {
            settings.buffered_bytes = 4 << 20;
            settings.write_timeout = Duration::from_secs(600);
        })
        .await;
        let (room, other) = fixture.apart();
        let partition = fixture.partition(&room);
        let permits = Arc::new(Semaphore::new(0));
        fixture.broker.fail_at(partition, Fault::Wait(permits.clone()));
        Self {
            fixture,
            room,
            other,
            partition,
            permits,
        }
    }

    fn windows(&self) -> Vec<usize> {
        self.fixture.broker.windows(self.partition)
    }

    /// Sees that of so much that is being sent through a door no more than a window is taken in hand at a time, and then
    /// lets all of it go.
    pub(crate) async fn is_read_by_windows(&self, door: &str, total: usize, sent: impl Fn() -> usize) {
        until(|| self.windows().len() == 1).await;
        let stood = standstill(&self.fixture, &self.other, &sent).await;
        assert!(
            stood < total / 2,
            "{stood} of {total} were taken, and none was written"
        );
        assert_eq!(self.fixture.arrivals(door), 0);

        // The broker takes one window: one more is read, and no more.
        self.permits.add_permits(1);
        until(|| self.windows().len() == 2).await;
        let stood = standstill(&self.fixture, &self.other, &sent).await;
        assert!(
            stood < total / 2,
            "{stood} of {total} were taken, and one window was written"
        );
        let windows = self.windows();
        assert_eq!(self.fixture.arrivals(door), windows[0]);
        assert_eq!(windows.len(), 2);
        assert!(windows.iter().all(|window| *window <= WINDOW), "{windows:?}");

        // It goes on, and so does everything.
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}
