//! What became of a request: the fate of every copy, and what the broker's answers say about it.

use carillon_broker::{AppendOutcome, Appended, BrokerError, Result};
use carillon_model::Offset;

use crate::write::Outgoing;

/// What became of one copy of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker has it.
    Placed(Offset),
    /// It was not written.
    Refused,
    /// It may have been written.
    Unknown,
}

/// Why a part was not written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The partition's queue holds so many entries.
    QueueFull(u64),
    /// The broker is out of memory.
    Memory,
    /// The broker can't be written to.
    Unavailable(String),
    /// This message's key stands for another content.
    KeyReused(usize),
    /// The answer was lost.
    Unknown(String),
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Written {
    /// For each message, the fate of its copy for each of its rooms.
    pub(crate) fates: Vec<Vec<Fate>>,
    /// For each message the worst that happened to it, if it was not placed in all its rooms.
    pub(crate) troubles: Vec<Option<Trouble>>,
    /// How many messages were found by their key (counted once per partition).
    pub(crate) repeats: u64,
    /// How many appends were made.
    pub(crate) appends: u64,
}

impl Written {
    /// Nothing is written yet.
    pub(crate) fn nothing(messages: &[Outgoing]) -> Self {
        Self {
            fates: messages
                .iter()
                .map(|message| vec![Fate::Refused; message.rooms.len()])
                .collect(),
            troubles: vec![None; messages.len()],
            repeats: 0,
            appends: 0,
        }
    }

    /// The worst that happened, if not everything was placed.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.troubles.iter().flatten().max()
    }

    /// Something happened to a part.
    pub(crate) fn happened(&mut self, places: &Places, trouble: &Trouble) {
        for (message, _) in places {
            let worst = &mut self.troubles[*message];
            if worst.as_ref() < Some(trouble) {
                *worst = Some(trouble.clone());
            }
        }
    }
}

/// For each message of a part: its place in the request, and the places of its rooms of this partition.
pub(crate) type Places = Vec<(usize, Vec<usize>)>;

/// Whether an answer has an offset for each copy.
pub(crate) fn fits(appended: &[Appended], places: &Places) -> bool {
    appended.len() == places.len()
        && appended
            .iter()
            .zip(places)
            .all(|(appended, (_, rooms))| appended.offsets.len() == rooms.len())
}

/// Message and room of each copy of a part.
pub(crate) fn copies(places: &Places) -> impl Iterator<Item = (usize, usize)> {
    places
        .iter()
        .flat_map(|(message, rooms)| rooms.iter().map(|room| (*message, *room)))
}

/// What an answer that places nothing means.
pub(crate) fn trouble(result: Result<AppendOutcome>, places: &Places) -> Trouble {
    match result {
        Ok(AppendOutcome::QueueFull { length }) => Trouble::QueueFull(length),
        Ok(AppendOutcome::KeyReused { message }) => {
            Trouble::KeyReused(places.get(message).map_or(0, |(place, _)| *place))
        }
        Err(BrokerError::OutOfMemory(_)) => Trouble::Memory,
        Err(BrokerError::Unknown(why)) => Trouble::Unknown(why),
        Err(error @ BrokerError::Unreplicated { .. }) => Trouble::Unknown(error.to_string()),
        Err(error @ BrokerError::Rejected { half_done: true, .. }) => {
            tracing::error!(%error, "the broker stopped an append halfway");
            Trouble::Unknown(error.to_string())
        }
        Err(
            error @ (BrokerError::Unavailable(_) | BrokerError::NotWritable(_) | BrokerError::LifeChanged),
        ) => Trouble::Unavailable(error.to_string()),
        Err(
            error @ (BrokerError::Misconfigured(_)
            | BrokerError::Rejected { .. }
            | BrokerError::Unstorable(_)),
        ) => {
            tracing::error!(%error, "the broker refuses appends");
            Trouble::Unavailable(error.to_string())
        }
        // Something was answered, and it makes no sense: the append may well have happened.
        Err(error @ BrokerError::Corrupt(_)) => {
            tracing::error!(%error, "an append was answered with nonsense");
            Trouble::Unknown(error.to_string())
        }
        Ok(AppendOutcome::Appended(_)) => {
            tracing::error!("an append was answered with the wrong number of offsets");
            Trouble::Unknown("the broker's answer does not fit the request".to_owned())
        }
    }
}
