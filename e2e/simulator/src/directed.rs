//! The interleavings that chance finds in less than one schedule of a hundred, set up step by step.
//!
//! Each is the one in which a rule of the protocol is the only thing that helps. A scenario holds a process back before
//! one kind of call ([`Step`]), does the rest of the world's part, and lets it go. The seed still decides how long every
//! call takes. What it could not set up is a violation of `scenario`, so that nothing passes by not happening.

use std::{sync::Arc, time::Duration};

use carillon_broker::memory::ops;
use carillon_model::{MessageId, Offset, Room};
use tokio::time::Instant;

use crate::{
    audit::Violation,
    broker::SimulatedBroker,
    mix::{Fault, Mix, Mutation},
    network::{Condition, Step},
    producer,
    schedule::{Schedule, Verdict, runtime},
};

/// An interleaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A client joins while a dispatcher is about to record a message for its room.
    JoinWhileRecording,
    /// A message goes through while a gateway is about to add its route.
    MessageWhileRouting,
    /// A dispatcher dies between recording a batch and writing it to the channels.
    DeathBeforeChannels,
    /// A gateway's channel lost an entry, and the next one comes.
    LostFrame,
    /// A channel does not answer and is parked; its dispatcher dies; then the channel answers again.
    DeathAfterParking,
    /// The same, and the dispatcher dies as it is about to write down that the channel is parked.
    DeathWhileParking,
    /// A message is delivered, its server fails over to one that never had it and whose clock is behind, and another
    /// message is appended.
    ClockBack,
    /// The shorter of two replicas is promoted. The old primary still has the other one, takes a message and confirms it;
    /// then a client comes back.
    ShorterPromoted,
}

use Scenario::{
    ClockBack, DeathAfterParking, DeathBeforeChannels, DeathWhileParking, JoinWhileRecording, LostFrame,
    MessageWhileRouting, ShorterPromoted,
};

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 8] = [
        JoinWhileRecording,
        MessageWhileRouting,
        DeathBeforeChannels,
        LostFrame,
        DeathAfterParking,
        DeathWhileParking,
        ClockBack,
        ShorterPromoted,
    ];

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scenario| format!("{scenario:?}").eq_ignore_ascii_case(name))
    }

    /// The rule that it shows to be needed.
    pub fn mutation(self) -> Mutation {
        match self {
            JoinWhileRecording => Mutation::HistoryAfterRoutes,
            MessageWhileRouting => Mutation::JoinReadsBeforeRouting,
            DeathBeforeChannels => Mutation::TrimBeforeChannels,
            LostFrame => Mutation::PrevCheckRemoved,
            DeathAfterParking => Mutation::ParkInMemory,
            DeathWhileParking => Mutation::MarkAfterTrim,
            ClockBack => Mutation::OffsetsNotRaised,
            ShorterPromoted => Mutation::GapsNotMarked,
        }
    }

    fn mix(self) -> Mix {
        Mix {
            name: "directed",
            faults: if matches!(self, ClockBack | ShorterPromoted) {
                &[Fault::FailOverPartitions]
            } else {
                &[]
            },
        }
    }
}

/// What a scenario waited for and did not see.
struct Missed(&'static str);

type Played = Result<(), Missed>;

/// Runs a scenario in virtual time.
pub fn run_directed(scenario: Scenario, seed: u64, mutation: Option<Mutation>, trace: bool) -> Verdict {
    runtime().block_on(async {
        let mut schedule = Schedule::new(scenario.mix(), seed, mutation, trace);
        schedule.lame = false;
        let mut stage = Stage {
            sent: 0,
            known: vec![Offset::ZERO; usize::from(schedule.partitions().get())],
            room: schedule.rooms[0].clone(),
            producer: schedule.healthy_broker(),
            schedule,
        };
        // There, a look at the servers in the wrong moment would take the producer to the new primary too early.
        if stage.producer.changes_lives() && scenario != ShorterPromoted {
            tokio::spawn(stage.producer.clone().watch_losses());
        }
        let played = stage.play(scenario).await;
        let mut schedule = stage.schedule;
        let drained = schedule.drained().await;
        // One client only: another one's join reads the room again, and heals what the first would miss.
        let mut verdict = schedule.finish(drained, 1).await;
        if let Err(Missed(what)) = played {
            verdict.violations.insert(
                0,
                Violation {
                    promise: "scenario",
                    detail: format!("{scenario:?} waited in vain for {what}"),
                },
            );
        }
        verdict
    })
}

struct Stage {
    schedule: Schedule,
    producer: SimulatedBroker,
    room: Room,
    sent: usize,
    known: Vec<Offset>,
}

impl Stage {
    async fn play(&mut self, scenario: Scenario) -> Played {
        self.schedule.start_gateway();
        self.schedule.start_dispatcher();
        // Everybody stands where messages flow before anything is held back.
        self.send().await;
        self.handled().await?;
        match scenario {
            JoinWhileRecording => self.join_while_recording().await,
            MessageWhileRouting => self.message_while_routing().await,
            DeathBeforeChannels => self.death_before_channels().await,
            LostFrame => self.lost_frame().await,
            DeathAfterParking => self.death_after_parking().await,
            DeathWhileParking => self.death_while_parking().await,
            ClockBack => self.clock_back().await,
            ShorterPromoted => self.shorter_promoted().await,
        }
    }

    async fn join_while_recording(&mut self) -> Played {
        let dispatcher = self.dispatcher();
        dispatcher.hold(Step::Record);
        self.send().await;
        until("the dispatcher to record", || dispatcher.is_held()).await?;
        self.joined(0).await?;
        dispatcher.release();
        self.handled().await
    }

    async fn message_while_routing(&mut self) -> Played {
        self.joined(0).await?;
        let first = self.send().await;
        self.seen(0, first).await?;
        self.schedule.cut(0);
        self.schedule.start_gateway();
        let gateway = Arc::clone(&self.schedule.gateways[1].condition);
        gateway.hold(Step::AddRoutes);
        self.schedule.connect_to(0, 1);
        until("the gateway to route", || gateway.is_held()).await?;
        self.send().await;
        self.handled().await?;
        gateway.release();
        Ok(())
    }

    async fn death_before_channels(&mut self) -> Played {
        self.joined(0).await?;
        let dispatcher = self.dispatcher();
        dispatcher.hold(Step::Record);
        self.send().await;
        until("the dispatcher to record", || dispatcher.is_held()).await?;
        // What it records next is this message, and what it then writes is this message too.
        dispatcher.hold(Step::AppendChannel);
        until("the dispatcher to write", || dispatcher.is_held()).await?;
        self.schedule.note(|| "the dispatcher is killed".to_owned());
        self.schedule.dispatchers.clear();
        self.schedule.start_dispatcher();
        self.handled().await
    }

    async fn lost_frame(&mut self) -> Played {
        self.joined(0).await?;
        let gateway = &self.schedule.gateways[0];
        let condition = Arc::clone(&gateway.condition);
        condition.hold(Step::ReadChannel);
        until("the gateway to read", || condition.is_held()).await?;
        self.send().await;
        self.handled().await?;
        let Some(incarnation) = self.schedule.gateways[0].hub.incarnation() else {
            return Err(Missed("the gateway's incarnation"));
        };
        let network = &self.schedule.setting.network;
        let server = network.servers.server_of_incarnation(&incarnation);
        self.schedule.note(|| "the channel's entries are lost".to_owned());
        network.intervene(server, |state| {
            let (_, last) = ops::channels::read_channel(state, &incarnation, Offset::ZERO, usize::MAX);
            ops::channels::trim_channel(state, &incarnation, last);
        });
        self.send().await;
        self.handled().await?;
        condition.release();
        Ok(())
    }

    async fn death_after_parking(&mut self) -> Played {
        self.joined(0).await?;
        self.mute()?;
        self.send().await;
        self.handled().await?;
        self.another_dispatcher();
        self.schedule.setting.network.unmute();
        Ok(())
    }

    async fn death_while_parking(&mut self) -> Played {
        self.joined(0).await?;
        self.mute()?;
        let dispatcher = self.dispatcher();
        dispatcher.hold(Step::Park);
        self.send().await;
        until("the dispatcher to park", || dispatcher.is_held()).await?;
        self.another_dispatcher();
        self.handled().await?;
        self.schedule.setting.network.unmute();
        Ok(())
    }

    /// The first gateway's channel answers nobody.
    fn mute(&self) -> Played {
        let incarnation = self.schedule.gateways[0].hub.incarnation();
        let incarnation = incarnation.ok_or(Missed("the gateway's incarnation"))?;
        self.schedule
            .note(|| format!("the channel of {incarnation} is mute"));
        let network = &self.schedule.setting.network;
        network.mute(incarnation, Duration::from_secs(1_000));
        Ok(())
    }

    fn another_dispatcher(&mut self) {
        self.schedule.note(|| "the dispatcher is killed".to_owned());
        self.schedule.dispatchers.clear();
        self.schedule.start_dispatcher();
    }

    async fn clock_back(&mut self) -> Played {
        self.joined(0).await?;
        let network = Arc::clone(&self.schedule.setting.network);
        let server = network
            .servers
            .server_of(self.schedule.partitions().partition_of(&self.room));
        let before = network.writes(server);
        let delivered = self.send().await;
        self.seen(0, delivered).await?;
        let lost = usize::try_from(network.writes(server) - before).unwrap_or(usize::MAX);
        self.schedule
            .note(|| format!("server {server} fails over, {lost} writes lost, clock back"));
        network.fail_over(server, lost, -5_000, false);
        // A producer that knows nothing of the past.
        self.known.fill(Offset::ZERO);
        self.send().await;
        Ok(())
    }

    async fn shorter_promoted(&mut self) -> Played {
        self.joined(0).await?;
        // By then the producer has all its connections, and each of them leads to the old primary.
        let mut last = self.send().await;
        for _ in 0..20 {
            last = self.send().await;
        }
        self.seen(0, last).await?;
        self.handled().await?;
        self.schedule.cut(0);
        let network = Arc::clone(&self.schedule.setting.network);
        let server = network
            .servers
            .server_of(self.schedule.partitions().partition_of(&self.room));
        self.schedule
            .note(|| format!("server {server} fails over, the old primary serves on"));
        network.promote(server, 0, 0, Some(Duration::from_millis(500)));
        let lost = self.send().await;
        if !network.ever_lost().contains(&lost) {
            return Err(Missed("the old primary to confirm a message"));
        }
        // Long enough for the producer's watcher to see it, and to say so.
        tokio::spawn(self.producer.clone().watch_losses());
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.handled().await?;
        self.joined(0).await
    }

    fn dispatcher(&self) -> Arc<Condition> {
        Arc::clone(&self.schedule.dispatchers[0].condition)
    }

    /// Sends a message to the room, and knows that it is kept.
    async fn send(&mut self) -> MessageId {
        self.sent += 1;
        let (broker, partitions) = (self.producer.clone(), self.schedule.partitions());
        let Schedule { audit, random, .. } = &mut self.schedule;
        let (room, known) = (&self.room, &mut self.known);
        producer::send(
            &broker, partitions, audit, "directed", self.sent, room, known, random,
        )
        .await;
        MessageId::of_idempotency_key("directed", &format!("directed.{}", self.sent))
    }

    /// Until the queues are empty.
    async fn handled(&self) -> Played {
        let schedule = &self.schedule;
        let servers = &schedule.setting.network.servers;
        let empty = || {
            schedule.partitions().partitions().all(|partition| {
                let server = servers.server_of(partition);
                servers.server_state(server).queue(partition).is_empty()
            })
        };
        until("the queues to be worked off", empty).await
    }

    /// Connects a client to the first gateway; it is told where it starts in every room.
    async fn joined(&mut self, client: usize) -> Played {
        self.schedule.connect_to(client, 0);
        let (audit, rooms) = (Arc::clone(&self.schedule.audit), self.schedule.rooms.len());
        until("the client to be in its rooms", || {
            audit.cursors(client).len() == rooms
        })
        .await
    }

    async fn seen(&self, client: usize, id: MessageId) -> Played {
        let audit = &self.schedule.audit;
        until("the client to see a message", || audit.has(client, id)).await
    }
}

async fn until(what: &'static str, holds: impl Fn() -> bool) -> Played {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        if Instant::now() >= deadline {
            return Err(Missed(what));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
