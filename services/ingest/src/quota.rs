//! What a producer may send per time: a generic cell rate algorithm, so that bursts pass and the rest is spread.
//!
//! A bucket holds `burst` messages and fills at the producer's rate. It counts in this process: with n processes of
//! ingest, a producer that spreads its requests over all of them gets up to n times its rate.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use carillon_model::policy::{Producer, RateLimit};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::problem::{Kind, Problem};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");

/// The quotas in use, by producer. Policy bounds how many there can be.
#[derive(Default)]
pub(crate) struct Quotas {
    buckets: Mutex<IndexMap<String, Arc<Bucket>>>,
    clock: DefaultClock,
}

/// What a producer has left.
struct Bucket {
    rate: RateLimit,
    limiter: Limiter,
    /// When it will be full again, as of the last that was taken.
    full_at: Mutex<Instant>,
}

impl Quotas {
    /// Takes so many messages from the producer's quota: all or none.
    pub(crate) fn take(&self, producer: &Producer, messages: usize) -> Result<(), Problem> {
        let Some(rate) = producer.rate else {
            return Ok(());
        };
        let Some(count) = u32::try_from(messages).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let bucket = self.bucket(producer, rate);
        let mut full_at = bucket.full_at.lock();
        match bucket.limiter.check_n(count) {
            Ok(Ok(left)) => {
                let taken = rate.burst.get().saturating_sub(left.remaining_burst_capacity());
                *full_at = Instant::now() + one(rate).saturating_mul(taken);
                Ok(())
            }
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let detail = format!(
                    "`{}` may send {}; nothing of this request was accepted",
                    producer.name,
                    described(rate)
                );
                Err(Problem::new(Kind::Quota, detail)
                    .with("outcome", "refused")
                    .retry_after(whole_seconds(wait)))
            }
            Err(_) => {
                let allowed = usize::try_from(rate.burst.get()).unwrap_or(usize::MAX);
                let detail = format!(
                    "this batch alone is over the quota of `{}`, {}: however long one waits, it can't pass; send \
                     batches of at most {allowed}",
                    producer.name,
                    described(rate)
                );
                let limit = if rate.burst == rate.count {
                    "producers.rate"
                } else {
                    "producers.burst"
                };
                Err(Problem::too_large(limit, allowed, detail))
            }
        }
    }

    /// Tells a producer where it stands, without taking anything: the fields of draft-ietf-httpapi-ratelimit-headers.
    /// Its unit are messages. `r` is how many pass at once now, `t` in how many seconds the whole burst is back.
    pub(crate) fn tell(&self, producer: &Producer, headers: &mut HeaderMap) {
        let Some(rate) = producer.rate else {
            return;
        };
        let full_at = *self.bucket(producer, rate).full_at.lock();
        let missing = full_at.saturating_duration_since(Instant::now());
        let taken = missing.as_nanos().div_ceil(one(rate).as_nanos().max(1));
        let left = u128::from(rate.burst.get()).saturating_sub(taken);
        let standing = format!("\"messages\";r={left};t={}", whole_seconds(missing));
        for (name, value) in [(POLICY, policy(rate)), (STANDING, standing)] {
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        }
    }

    /// The producer's bucket. A changed rate starts a new one.
    fn bucket(&self, producer: &Producer, rate: RateLimit) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get(&producer.name)
            && bucket.rate == rate
        {
            return Arc::clone(bucket);
        }
        let bucket = Arc::new(Bucket {
            rate,
            limiter: RateLimiter::direct(quota(rate)).with_middleware(),
            full_at: Mutex::new(Instant::now()),
        });
        buckets.insert(producer.name.clone(), Arc::clone(&bucket));
        bucket
    }
}

/// The time in which one message comes back.
fn one(rate: RateLimit) -> Duration {
    (rate.period / rate.count.get()).max(Duration::from_nanos(1))
}

fn quota(rate: RateLimit) -> Quota {
    // The period is above zero, so there always is a quota.
    Quota::with_period(one(rate)).map_or_else(
        || Quota::per_second(rate.count),
        |quota| quota.allow_burst(rate.burst),
    )
}

/// `q` messages per `w` seconds; and how many at once, where that is something else.
fn policy(rate: RateLimit) -> String {
    let window = whole_seconds(rate.period).max(1);
    // The field knows whole seconds only: 5 per 100 ms are 50 per second.
    let per_window =
        u128::from(window) * 1_000_000_000 * u128::from(rate.count.get()) / rate.period.as_nanos().max(1);
    let mut policy = format!("\"messages\";q={per_window};w={window}");
    if rate.burst != rate.count {
        policy.push_str(&format!(", \"burst\";q={}", rate.burst));
    }
    policy
}

/// Rounded up: whoever waits so long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn described(rate: RateLimit) -> String {
    let period = match rate.period.as_secs() {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        _ => format!("{:?}", rate.period),
    };
    let burst = if rate.burst == rate.count {
        String::new()
    } else {
        format!(", at most {} at once", rate.burst)
    };
    format!("{} messages per {period}{burst}", rate.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, period: Duration, burst: u32) -> RateLimit {
        RateLimit {
            count: NonZeroU32::new(count).unwrap(),
            period,
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_policy_is_told_in_whole_seconds() {
        let second = Duration::from_secs(1);
        assert_eq!(policy(rate(200, second, 200)), r#""messages";q=200;w=1"#);
        assert_eq!(
            policy(rate(200, second, 400)),
            r#""messages";q=200;w=1, "burst";q=400"#
        );
        assert_eq!(policy(rate(5, second / 10, 5)), r#""messages";q=50;w=1"#);
        assert_eq!(policy(rate(3, second * 60, 3)), r#""messages";q=3;w=60"#);
    }

    #[test]
    fn waiting_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
    }
}
