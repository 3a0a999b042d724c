//! What goes wrong in a schedule, step by step.

use std::{sync::Arc, time::Duration};

use carillon_broker::memory::ops;
use tokio::time::Instant;

use crate::{
    mix::Fault,
    schedule::{CLIENTS, Schedule},
};

impl Schedule {
    /// One step of the world: most often nothing.
    pub(crate) fn act(&mut self) {
        let mix = self.setting.mix;
        if mix.has(Fault::Churn) && self.random.u8(..100) < 15 {
            let client = self.random.usize(..CLIENTS);
            if self.clients[client].is_connected() {
                self.cut(client)
            } else {
                self.connect(client)
            }
        }
        if mix.has(Fault::FirstReplica) {
            self.change_identities();
        }
        if mix.has(Fault::SilentAddress) {
            self.replace_silent(false);
            self.fall_silent();
        }
        if self.random.u8(..100) >= 25 {
            return;
        }
        match self
            .random
            .u8(..if mix.has(Fault::MuteChannel) { 13 } else { 12 })
        {
            0 | 1 if mix.has(Fault::Cut) => {
                let client = self.random.usize(..CLIENTS);
                self.cut(client);
            }
            2 | 3 => {
                let client = self.random.usize(..CLIENTS);
                if !self.clients[client].is_connected() {
                    self.connect(client);
                }
            }
            4 if mix.has(Fault::StallDispatcher) => {
                let index = self.random.usize(..self.dispatchers.len());
                self.note(|| format!("dispatcher at {index} stands still"));
                self.dispatchers[index].condition.stall(true);
            }
            5 => self.resume_dispatchers(),
            6 if mix.has(Fault::KillDispatcher) && self.random.bool() => {
                let index = self.random.usize(..self.dispatchers.len());
                self.note(|| format!("dispatcher at {index} is killed"));
                self.dispatchers.swap_remove(index);
                self.start_dispatcher();
            }
            7 if mix.has(Fault::KillGateway) && self.random.u8(..10) < 3 => {
                let index = self.random.usize(..self.gateways.len());
                let gateway = self.gateways.swap_remove(index);
                self.note(|| format!("gateway {} is killed", gateway.number));
                for client in &mut self.clients {
                    if client.gateway() == Some(gateway.number) {
                        client.cut(&self.audit);
                    }
                }
                drop(gateway);
                self.start_gateway();
            }
            8 if mix.has(Fault::StallGateway) => {
                let index = self.random.usize(..self.gateways.len());
                let stalled = !self.gateways[index].condition.is_stalled();
                self.note(|| format!("gateway {} stands still: {stalled}", self.gateways[index].number));
                self.gateways[index].condition.stall(stalled);
            }
            9 if mix.has(Fault::DeclareDead) => self.declare_dead(),
            10 if mix.has(Fault::FailOverPartitions) && self.random.u8(..10) < 6 => self.fail_over(0),
            10 if mix.has(Fault::ClockBehind) && self.failovers == 0 => self.fail_over_behind(),
            11 if mix.has(Fault::FailOverChannels) && self.random.u8(..10) < 6 => self.fail_over(1),
            12 => self.mute_channel(),
            _ => {}
        }
    }

    fn change_identities(&mut self) {
        let (what, server) = (self.random.u8(..100), self.random.usize(..2));
        let network = Arc::clone(&self.setting.network);
        // A new ID raises offsets as a failover does; where one follows the other, that counts as two failovers.
        let fails_over = self.setting.mix.has(Fault::SilentAddress);
        let often = if fails_over { 1 } else { 4 };
        if what < often {
            if (!fails_over || self.may_fail_over(server)) && network.change_replication_id(server) {
                self.note(|| format!("server {server} has another replication ID, and lost nothing"));
            }
        } else if what < 6
            && self.loses_writes
            && self.setting.mix.has(Fault::PromotedBack)
            && self.may_fail_over(server)
        {
            let lost = self.random.usize(..=24);
            self.note(|| format!("server {server} is demoted and promoted again, {lost} writes lost"));
            network.promote_back(server, lost);
        }
    }

    fn fall_silent(&mut self) {
        let (what, which) = (self.random.u8(..100), self.random.usize(..6));
        let network = Arc::clone(&self.setting.network);
        if what < 2
            && let Some(seeds) = &network.seeds
        {
            let silent = (!seeds.is_one_silent()).then_some(which);
            self.note(|| format!("silent of those that tell who is primary: {silent:?}"));
            seeds.fall_silent(silent);
        } else if what < 4 && self.may_fail_over(which % 2) {
            let server = which % 2;
            let process = network.fall_silent(server);
            self.note(|| format!("{process} falls silent"));
            let replaced = Instant::now() + Duration::from_millis(self.random.u64(100..700));
            self.silent.entry(server).or_insert(replaced);
        }
    }

    /// Primaries that fell silent have successors after a while.
    pub(crate) fn replace_silent(&mut self, at_once: bool) {
        let due = |at: &Instant| at_once || *at <= Instant::now();
        for server in [0, 1] {
            if self.silent.get(&server).is_some_and(due) {
                self.silent.remove(&server);
                let lost = self.random.usize(..=24);
                self.note(|| format!("server {server} fails over, {lost} writes lost"));
                self.failed_over.insert(server, Instant::now());
                self.setting.network.fail_over(server, lost, 0, false);
            }
        }
    }

    fn mute_channel(&mut self) {
        let index = self.random.usize(..self.gateways.len());
        let lasts = Duration::from_millis(self.random.u64(500..5_000));
        if let Some(incarnation) = self.gateways[index].hub.incarnation() {
            self.note(|| format!("the channel of {incarnation} is mute for {lasts:?}"));
            self.setting.network.mute(incarnation, lasts);
        }
    }

    pub(crate) fn resume_dispatchers(&mut self) {
        for dispatcher in &self.dispatchers {
            dispatcher.condition.stall(false);
        }
    }

    fn declare_dead(&mut self) {
        for gateway in self
            .gateways
            .iter()
            .filter(|gateway| gateway.condition.is_stalled())
        {
            let Some(incarnation) = gateway.hub.incarnation() else {
                continue;
            };
            self.note(|| format!("{incarnation} is declared dead"));
            let servers = &self.setting.network.servers;
            let server = servers.server_of_incarnation(&incarnation);
            self.setting
                .network
                .intervene(server, |state| ops::membership::end_life(state, &incarnation));
        }
    }

    /// Two failovers of a server are further apart than clocks differ: closer together, offsets may be given twice
    /// (the limit that DESIGN §5 states).
    fn may_fail_over(&mut self, server: usize) -> bool {
        let recently = |at: &Instant| at.elapsed() < Duration::from_millis(500);
        if self.failed_over.get(&server).is_some_and(recently) {
            return false;
        }
        self.failed_over.insert(server, Instant::now());
        self.failovers += 1;
        true
    }

    fn fail_over(&mut self, server: usize) {
        if self.silent.contains_key(&server) || !self.may_fail_over(server) {
            return;
        }
        let most = [0, 5, 24][self.random.usize(..3)];
        let lost = self.random.usize(..=most);
        let skew = if self.random.u8(..10) < 6 {
            self.random.i64(-200..200)
        } else {
            0
        };
        let split = self.setting.mix.has(Fault::Split) && self.random.u8(..10) < 7;
        self.note(|| {
            format!("server {server} fails over, {lost} writes lost, clock {skew} ms, split {split}")
        });
        self.setting.network.fail_over(server, lost, skew, split);
    }

    fn fail_over_behind(&mut self) {
        self.failovers += 1;
        let (lost, skew) = (self.random.usize(..=24), -self.random.i64(0..20_000));
        self.note(|| format!("server 0 fails over, {lost} writes lost, clock {skew} ms"));
        self.setting.network.fail_over(0, lost, skew, false);
    }
}
