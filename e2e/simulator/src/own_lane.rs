//! A reader's own connection: it leads to one process until that is given up.

use std::sync::Arc;

use carillon_broker::{Result, memory::ServerState};

use crate::connections::{Connections, Reached, lost};

/// The connection, if there is one: the process at the other end, and when it was made.
#[derive(Debug, Default)]
pub(crate) struct OwnLane(Option<(Arc<str>, u64)>);

impl Connections {
    /// Reads on a connection of one's own. It is cut off as soon as the process knows another primary; so is a read that
    /// waits, with the next try. Where no address tells who is primary, any connection of the process will do.
    pub(crate) async fn read_on<R>(
        &self,
        lane: &mut OwnLane,
        server: usize,
        operation: impl FnOnce(&ServerState, u64) -> R,
    ) -> Result<R> {
        if self.network.seeds.is_none() {
            return self.read(server, operation).await;
        }
        self.step().await;
        let (process, generation) = match lane.0.take() {
            Some((_, generation)) if self.is_cut_off(server, generation) => return Err(lost(false)),
            Some(kept) => kept,
            None => {
                let process = self.primary(server).await?;
                (process, self.primaries.generation(server))
            }
        };
        match self.network.whose(server, &process) {
            Some(Reached::Answers(happens)) => {
                let read = self.happen(server, false, happens, |state, now, _| operation(state, now));
                self.step().await;
                lane.0 = Some((process, generation));
                Ok(read)
            }
            Some(Reached::Silent) => {
                self.unanswered(server).await;
                Err(lost(false))
            }
            None => {
                let _ = self.discover().await;
                Err(lost(false))
            }
        }
    }

    fn is_cut_off(&self, server: usize, generation: u64) -> bool {
        !self.network.manners.readers_stay && generation != self.primaries.generation(server)
    }
}
