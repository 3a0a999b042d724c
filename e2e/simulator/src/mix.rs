//! Which faults a schedule has, and which rule it breaks on purpose.

use std::{fmt, str::FromStr};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Clients are cut off and come back.
    Cut,
    /// Many short sessions, rooms that are left soon.
    Churn,
    /// Answers are lost.
    LostAnswers,
    /// A dispatcher stands still and goes on.
    StallDispatcher,
    /// A dispatcher dies and another starts.
    KillDispatcher,
    /// A gateway stands still and goes on.
    StallGateway,
    /// A gateway dies and another starts.
    KillGateway,
    /// A gateway that stands still is declared dead.
    DeclareDead,
    /// Channels are small.
    Overrun,
    /// The partitions' server fails over and loses a tail.
    FailOverPartitions,
    /// The other server, with channels on it, fails over and loses a tail.
    FailOverChannels,
    /// The old primary serves its connections for a while.
    Split,
    /// One failover only, to a server whose clock is far behind.
    ClockBehind,
    /// Outboxes are small: sessions fall behind.
    SmallOutbox,
    /// A gateway's channel does not answer dispatchers for a while.
    MuteChannel,
    /// The replication ID of a primary changes without a loss: its first replica attaches, or its backlog expires.
    FirstReplica,
    /// In half of the schedules, a primary is demoted and promoted again: its process is the same, and a tail is gone.
    PromotedBack,
    /// An address accepts connections and answers nothing: one of those that tell who is primary, or a primary, which is
    /// replaced a moment later. Old primaries may serve on for good.
    SilentAddress,
}

/// A named set of faults.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Its name on the command line.
    pub name: &'static str,
    /// What goes wrong.
    pub faults: &'static [Fault],
}

impl Mix {
    /// Whether it has a fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether servers may lose writes; then a needless `false` proves nothing.
    pub fn loses_writes(&self) -> bool {
        [
            Fault::FailOverPartitions,
            Fault::FailOverChannels,
            Fault::ClockBehind,
            Fault::PromotedBack,
        ]
        .iter()
        .any(|fault| self.has(*fault))
    }

    /// The mix with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        MIXES.iter().find(|mix| mix.name == name)
    }
}

use Fault::{
    Churn, ClockBehind, Cut, DeclareDead, FailOverChannels, FailOverPartitions, FirstReplica, KillDispatcher,
    KillGateway, LostAnswers, MuteChannel, Overrun, PromotedBack, SilentAddress, SmallOutbox, Split,
    StallDispatcher, StallGateway,
};

/// Every mix that `make test` runs.
pub const MIXES: &[Mix] = &[
    Mix {
        name: "calm",
        faults: &[Cut],
    },
    Mix {
        name: "churn",
        faults: &[Cut, Churn],
    },
    Mix {
        name: "slow-readers",
        faults: &[Cut, SmallOutbox],
    },
    Mix {
        name: "dispatchers",
        faults: &[Cut, Churn, LostAnswers, StallDispatcher, KillDispatcher],
    },
    Mix {
        name: "gateways",
        faults: &[Cut, LostAnswers, StallGateway, KillGateway, DeclareDead, Overrun],
    },
    Mix {
        name: "mute-channels",
        faults: &[Cut, MuteChannel, KillDispatcher, StallDispatcher],
    },
    Mix {
        name: "partitions-fail-over",
        faults: &[
            Cut,
            LostAnswers,
            FailOverPartitions,
            Split,
            StallDispatcher,
            KillDispatcher,
        ],
    },
    Mix {
        name: "channels-fail-over",
        faults: &[Cut, FailOverChannels, Split, StallDispatcher, KillDispatcher],
    },
    Mix {
        name: "clock-behind",
        faults: &[Cut, ClockBehind, StallDispatcher],
    },
    Mix {
        name: "identities",
        faults: &[
            Cut,
            LostAnswers,
            FirstReplica,
            PromotedBack,
            StallDispatcher,
            KillDispatcher,
            StallGateway,
        ],
    },
    Mix {
        name: "old-primaries",
        faults: &[
            Cut,
            FailOverPartitions,
            FailOverChannels,
            Split,
            SilentAddress,
            FirstReplica,
            StallDispatcher,
            KillDispatcher,
        ],
    },
    Mix {
        name: "all",
        faults: &[
            Cut,
            Churn,
            LostAnswers,
            StallDispatcher,
            KillDispatcher,
            StallGateway,
            KillGateway,
            DeclareDead,
            Overrun,
            FailOverPartitions,
            FailOverChannels,
            Split,
            SmallOutbox,
            MuteChannel,
        ],
    },
];

/// A rule of DESIGN §5 that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Routes are read before history is written.
    HistoryAfterRoutes,
    /// A join reads before its route stands.
    JoinReadsBeforeRouting,
    /// Reading consumes: what was read is not read again.
    ConsumingRead,
    /// A re-asserted route is not a join.
    ReassertWithoutCatchUp,
    /// Only the gateway's last offset filters.
    FilterWithoutSessionCursor,
    /// The queue is trimmed before the channels hold the batch.
    TrimBeforeChannels,
    /// A trim does not check who trims.
    UnfencedTrim,
    /// Offsets go on from the server's clock after a failover.
    OffsetsNotRaised,
    /// Frames are delivered whatever their prev says.
    PrevCheckRemoved,
    /// What was read under one lease is trusted under the next.
    PrevMapKeptOverLease,
    /// A join is done when history has nothing more.
    JoinStopsAtFirstLateFrame,
    /// That a channel is parked is known to its owner alone.
    ParkInMemory,
    /// That a channel is parked is written down after the batch was acknowledged.
    MarkAfterTrim,
    /// Every recovery is told as incomplete.
    AlwaysFalse,
    /// Who missed something is told `false` and starts at the newest, though history holds it.
    FalseInsteadOfReplay,
    /// What a failover took back is not marked.
    GapsNotMarked,
    /// Any other replication ID of a running server is taken for benign.
    EveryChangeBenign,
    /// Fenced calls compare with what the data is called, not with the present replication ID.
    FencedByName,
    /// Who is primary is asked of one address alone.
    OneAddressAsked,
    /// Readers are not cut off from a server that lost its role.
    ReadersStay,
    /// Nobody asks a server for its role: a primary that was demoted answers reads on, with old data under its old name.
    RoleNotChecked,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::HistoryAfterRoutes,
        Self::JoinReadsBeforeRouting,
        Self::ConsumingRead,
        Self::ReassertWithoutCatchUp,
        Self::FilterWithoutSessionCursor,
        Self::TrimBeforeChannels,
        Self::UnfencedTrim,
        Self::OffsetsNotRaised,
        Self::PrevCheckRemoved,
        Self::PrevMapKeptOverLease,
        Self::JoinStopsAtFirstLateFrame,
        Self::AlwaysFalse,
        Self::FalseInsteadOfReplay,
        Self::GapsNotMarked,
        Self::EveryChangeBenign,
        Self::FencedByName,
        Self::OneAddressAsked,
        Self::ReadersStay,
        Self::RoleNotChecked,
        Self::ParkInMemory,
        Self::MarkAfterTrim,
    ];
}

impl fmt::Display for Mutation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|mutation| mutation.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("no mutation `{name}`; there are {:?}", Self::ALL))
    }
}
