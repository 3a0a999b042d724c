//! What those who watch a room were told of it, and what a look at the statements changes in it.
//!
//! A user whom no living gateway states any more has left, at once if the gateway itself took the statement back: it
//! waited the grace time already. Of a gateway that died nobody has known anything for the alive time, which has hidden
//! reconnects; only one that was declared dead and lives is waited for. What was lost in a failover will be stated
//! again, and the grace time is waited here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use carillon_broker::{Incarnation, Life, Person, PresenceCount, PresenceVersion, RoomPresence};
use tokio::time::Instant;

/// How long a gateway that was declared dead, and is not, may take to state everything anew: it finds out when it renews
/// its alive key, every two seconds.
const STATED_ANEW: Duration = Duration::from_millis(2_500);

type Gateways = BTreeMap<Incarnation, BTreeMap<Person, u32>>;

/// One room, as it was told.
#[derive(Debug, Default)]
pub(super) struct Picture {
    version: Option<PresenceVersion>,
    life: Option<Life>,
    gateways: Gateways,
    /// What the last look found stated, where it changed since.
    before: Gateways,
    /// Whether the server failed over since.
    lost: bool,
    present: BTreeSet<Arc<str>>,
    /// Those who may be back, and until when they are waited for.
    missing: BTreeMap<Arc<str>, Instant>,
    sessions: u64,
    drawn: bool,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Joined(Arc<str>),
    Left(Arc<str>),
}

impl Picture {
    /// What is known, for the next read.
    pub(super) fn version(&self) -> Option<&PresenceVersion> {
        self.version.as_ref()
    }

    /// Takes in what was read: nothing where it is the known version.
    pub(super) fn read(&mut self, found: Option<RoomPresence>, life: &Life) {
        self.lost |= self.life.as_ref().is_some_and(|known| known != life);
        self.life = Some(life.clone());
        if let Some(RoomPresence { version, gateways }) = found {
            self.version = Some(version);
            let before = std::mem::replace(&mut self.gateways, gateways);
            if self.before.is_empty() {
                self.before = before;
            }
        }
    }

    /// What this gateway itself would state now: a session sees itself before anybody else does.
    pub(super) fn draw_own(&mut self, own: &Incarnation, people: BTreeMap<Person, u32>) {
        self.gateways.insert(own.clone(), people);
    }

    /// Who stated anything, now or before.
    pub(super) fn stated_by(&self) -> impl Iterator<Item = &Incarnation> {
        self.gateways.keys().chain(self.before.keys())
    }

    /// Those among the present statements that are dead; they are forgotten.
    pub(super) fn bury(&mut self, living: &BTreeSet<Incarnation>) -> Vec<Incarnation> {
        let dead: Vec<Incarnation> = self
            .gateways
            .keys()
            .filter(|one| !living.contains(*one))
            .cloned()
            .collect();
        for one in &dead {
            self.gateways.remove(one);
        }
        dead
    }

    /// Compares what is stated with what was told. The first time there is nothing to compare with.
    pub(super) fn look(
        &mut self,
        living: &BTreeSet<Incarnation>,
        now: Instant,
        grace: Duration,
    ) -> Vec<Change> {
        let of_living = self
            .gateways
            .iter()
            .filter(|(gateway, _)| living.contains(*gateway));
        let count = PresenceCount::of(of_living.map(|(_, people)| people));
        self.sessions = count.sessions;
        let (before, lost) = (std::mem::take(&mut self.before), std::mem::take(&mut self.lost));
        if !std::mem::replace(&mut self.drawn, true) {
            self.present = count.users;
            return Vec::new();
        }
        let died = |user: &Arc<str>| {
            let person = Some(Arc::clone(user));
            let mut stated = before.iter().chain(&self.gateways);
            stated.any(|(gateway, people)| !living.contains(gateway) && people.contains_key(&person))
        };
        let mut changes = Vec::new();
        for user in self.present.difference(&count.users) {
            let until = match self.missing.get(user) {
                Some(until) => *until,
                None if lost => now + grace,
                None if died(user) => now + STATED_ANEW.min(grace),
                None => now,
            };
            if until <= now {
                changes.push(Change::Left(Arc::clone(user)));
            }
            self.missing.insert(Arc::clone(user), until);
        }
        self.missing
            .retain(|user, until| *until > now && !count.users.contains(user));
        for user in count.users.difference(&self.present) {
            changes.push(Change::Joined(Arc::clone(user)));
        }
        self.present = count.users;
        self.present.extend(self.missing.keys().cloned());
        changes
    }

    /// Users, those who may be back included.
    pub(super) fn users(&self) -> &BTreeSet<Arc<str>> {
        &self.present
    }

    /// Sessions on living gateways.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(15);

    struct Stage {
        picture: Picture,
        living: BTreeSet<Incarnation>,
        life: Life,
        reads: u64,
        now: Instant,
    }

    fn gateway(name: &str) -> Incarnation {
        Incarnation::new(name, "1")
    }

    impl Stage {
        fn new(stated: &[(&str, &[&str])]) -> Self {
            let mut stage = Self {
                picture: Picture::default(),
                living: [gateway("a"), gateway("b")].into(),
                life: Life("one".into()),
                reads: 0,
                now: Instant::now(),
            };
            assert_eq!(stage.look(0, Some(stated)), "", "the first look tells nothing");
            stage
        }

        /// So many seconds later, with these statements, or those of the last time.
        fn look(&mut self, seconds: u64, stated: Option<&[(&str, &[&str])]>) -> String {
            self.now += Duration::from_secs(seconds);
            self.reads += 1;
            let found = stated.map(|stated| RoomPresence {
                version: PresenceVersion(self.reads.to_string().into()),
                gateways: stated
                    .iter()
                    .map(|(name, users)| {
                        let people = users.iter().map(|user| (Some(Arc::from(*user)), 1));
                        (gateway(name), people.collect())
                    })
                    .collect(),
            });
            self.picture.read(found, &self.life);
            let changes = self.picture.look(&self.living, self.now, GRACE);
            let changes = changes.iter().map(|change| match change {
                Change::Joined(user) => format!("+{user}"),
                Change::Left(user) => format!("-{user}"),
            });
            changes.collect::<Vec<_>>().join(" ")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_counts_once_and_leaves_with_the_last_gateway() {
        let mut stage = Stage::new(&[("a", &["ann"])]);
        assert_eq!(
            stage.look(1, Some(&[("a", &["ann", "ben"]), ("b", &["ann"])])),
            "+ben"
        );
        assert_eq!(stage.look(1, None), "");
        assert_eq!(stage.look(1, Some(&[("a", &["ben"]), ("b", &["ann"])])), "");
        assert_eq!(stage.look(1, Some(&[("a", &["ben"])])), "-ann");
        assert_eq!(stage.look(1, Some(&[])), "-ben");
        assert_eq!(stage.look(1, Some(&[("b", &["ann"])])), "+ann");
    }

    #[tokio::test(start_paused = true)]
    async fn the_users_of_a_dead_gateway_are_gone_but_for_those_who_came_back() {
        let mut stage = Stage::new(&[("a", &["ann", "ben", "dan"]), ("b", &["cleo"])]);
        let before_its_death = [("a", &["ann", "ben", "dan"][..]), ("b", &["ann", "cleo"])];
        assert_eq!(stage.look(5, Some(&before_its_death)), "");
        stage.living.remove(&gateway("a"));
        assert_eq!(stage.look(4, None), "");
        assert_eq!(stage.picture.users().len(), 4);
        assert_eq!(stage.picture.sessions(), 2, "sessions are those of the living");
        assert_eq!(stage.picture.bury(&stage.living), [gateway("a")]);
        assert_eq!(stage.look(2, Some(&[("b", &["ann", "cleo", "dan"])])), "");
        assert_eq!(stage.look(1, None), "-ben");
        assert_eq!(stage.look(60, None), "", "once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_are_gone_also_when_somebody_else_tidied_up() {
        let mut stage = Stage::new(&[("a", &["ann"]), ("b", &["cleo"])]);
        stage.living.remove(&gateway("a"));
        assert_eq!(stage.look(1, Some(&[("b", &["cleo", "dan"])])), "+dan");
        assert_eq!(stage.look(2, None), "");
        assert_eq!(stage.look(1, None), "-ann");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failover_lost_is_waited_for() {
        let mut stage = Stage::new(&[("a", &["ann", "ben"])]);
        stage.life = Life("two".into());
        assert_eq!(stage.look(1, Some(&[])), "");
        assert_eq!(stage.look(1, Some(&[("a", &["ann"])])), "");
        assert_eq!(stage.look(14, None), "-ben");
        assert_eq!(stage.look(1, Some(&[])), "-ann", "later ones leave as ever");
    }
}
