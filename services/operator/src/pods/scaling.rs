//! How many pods a service should have, from what it has to do. Pure: time and numbers come from outside.
//!
//! A need counts only when it has lasted: more pods when every look of the upper window wanted more, fewer when every
//! look of the lower window wanted fewer. After a start the windows are empty, so nothing is taken away before one has
//! passed. One step at most doubles the pods, or takes a quarter of them.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A need within this share of what there is changes nothing.
const TOLERANCE: f64 = 0.1;

/// What is wanted of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Never fewer.
    pub(crate) min: i32,
    /// Never more.
    pub(crate) max: i32,
    /// Never more either, such as the number of partitions.
    pub(crate) cap: i32,
    /// What one pod should have to do.
    pub(crate) each: u32,
    /// How long a need for more must last.
    pub(crate) up: Duration,
    /// How long a need for fewer must last.
    pub(crate) down: Duration,
}

impl Wanted {
    /// The largest number that is ever chosen.
    pub(crate) fn most(&self) -> i32 {
        self.max.min(self.cap).max(1)
    }

    fn least(&self) -> i32 {
        self.min.clamp(1, self.most())
    }

    /// How many would be right at this moment, with so much to do.
    fn right(&self, replicas: i32, load: u64) -> i32 {
        let per_pod = load as f64 / f64::from(replicas.max(1)) / f64::from(self.each.max(1));
        if (per_pod - 1.0).abs() <= TOLERANCE {
            return replicas;
        }
        let needed = load.div_ceil(u64::from(self.each.max(1)));
        i32::try_from(needed).unwrap_or(i32::MAX)
    }
}

/// What was right lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looks {
    since: Option<Instant>,
    /// The newest last.
    looks: VecDeque<(Instant, i32)>,
}

impl Looks {
    /// One look. The answer is how many pods there should be, if that is another number than `replicas`.
    pub(crate) fn look(&mut self, wanted: &Wanted, replicas: i32, load: u64, now: Instant) -> Option<i32> {
        let since = *self.since.get_or_insert(now);
        let (least, most) = (wanted.least(), wanted.most());
        let right = wanted.right(replicas, load).clamp(least, most);
        self.looks.push_back((now, right));
        let longest = wanted.up.max(wanted.down);
        while self
            .looks
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > longest)
        {
            self.looks.pop_front();
        }
        // Bounds hold at once: somebody changed them.
        if replicas < least || replicas > most {
            self.looks.clear();
            return Some(replicas.clamp(least, most));
        }
        let within = |window: Duration| {
            let looks = self
                .looks
                .iter()
                .filter(move |(at, _)| now.duration_since(*at) <= window);
            looks.map(|(_, right)| *right)
        };
        let lasted = |window: Duration| now.duration_since(since) >= window;
        let more = within(wanted.up)
            .min()
            .filter(|right| *right > replicas && lasted(wanted.up));
        let fewer = within(wanted.down)
            .max()
            .filter(|right| *right < replicas && lasted(wanted.down));
        let chosen = match (more, fewer) {
            (Some(more), _) => more.min(replicas.saturating_mul(2)),
            (None, Some(fewer)) => fewer.max(replicas - (replicas / 4).max(1)),
            (None, None) => return None,
        };
        // The next step waits for a window of its own.
        self.looks.clear();
        self.since = Some(now);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wanted() -> Wanted {
        Wanted {
            min: 1,
            max: 10,
            cap: 8,
            each: 100,
            up: SECOND * 10,
            down: SECOND * 60,
        }
    }

    /// The first change within so many seconds of the same load, and when.
    fn first_change(
        looks: &mut Looks,
        wanted: &Wanted,
        replicas: i32,
        load: u64,
        from: Instant,
        seconds: u32,
    ) -> Option<(u32, i32)> {
        (0..seconds).find_map(|second| {
            let chosen = looks.look(wanted, replicas, load, from + SECOND * second)?;
            Some((second, chosen))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_need_must_last() {
        let now = Instant::now();
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 2, 350, now, 60),
            Some((10, 4))
        );
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 4, 50, now, 120),
            Some((60, 3))
        );
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 4, 430, now, 600),
            None,
            "near enough"
        );
        let mut looks = Looks::default();
        for second in 0..600 {
            // Every eight seconds the need is gone for one look.
            let load = if second % 8 == 0 { 150 } else { 900 };
            assert_eq!(
                looks.look(&wanted(), 2, load, now + SECOND * second),
                None,
                "at {second}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_step_at_most_doubles_and_bounds_hold() {
        let now = Instant::now();
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 2, 100_000, now, 60),
            Some((10, 4))
        );
        let mut looks = Looks::default();
        assert_eq!(
            first_change(&mut looks, &wanted(), 5, 100_000, now, 60),
            Some((10, 8)),
            "never above the partitions"
        );
        assert_eq!(
            first_change(&mut looks, &wanted(), 8, 100_000, now + SECOND * 20, 600),
            None
        );
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 9, 0, now, 1),
            Some((0, 8)),
            "a bound holds at once"
        );
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 1, 0, now, 600),
            None
        );
        assert_eq!(
            first_change(&mut Looks::default(), &wanted(), 0, 0, now, 1),
            Some((0, 1))
        );
        let narrow = Wanted { cap: 1, ..wanted() };
        assert_eq!(
            first_change(&mut Looks::default(), &narrow, 1, 100_000, now, 600),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_waits_for_a_window_of_its_own() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        assert_eq!(first_change(&mut looks, &wanted(), 8, 0, now, 600), Some((60, 6)));
        let after = now + SECOND * 61;
        assert_eq!(
            first_change(&mut looks, &wanted(), 6, 0, after, 600),
            Some((59, 5))
        );
    }
}
