//! What a producer may send per time: a generic cell rate algorithm, so that bursts up to the whole quota pass and the
//! rest is spread.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use carillon_model::policy::{Producer, RateLimit};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use indexmap::IndexMap;
use parking_lot::Mutex;

use crate::problem::{Kind, Problem};

type Limiter =
    RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware<<DefaultClock as Clock>::Instant>>;

/// The quotas in use, by producer. Policy bounds how many there can be.
#[derive(Default)]
pub(crate) struct Quotas {
    limiters: Mutex<IndexMap<String, (RateLimit, Arc<Limiter>)>>,
    clock: DefaultClock,
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
        match self.limiter(producer, rate).check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let detail = format!(
                    "`{}` may send {} messages per {}; nothing of this request was accepted",
                    producer.name,
                    rate.count,
                    described(rate.period)
                );
                Err(Problem::new(Kind::Quota, detail)
                    .with("outcome", "refused")
                    .retry_after(seconds))
            }
            Err(_) => {
                let allowed = usize::try_from(rate.count.get()).unwrap_or(usize::MAX);
                let detail = format!(
                    "this batch alone is over the quota of `{}`, {} messages per {}; send smaller ones",
                    producer.name,
                    rate.count,
                    described(rate.period)
                );
                Err(Problem::too_large("producers.rate", allowed, detail))
            }
        }
    }

    /// The producer's limiter. A changed rate starts a new one.
    fn limiter(&self, producer: &Producer, rate: RateLimit) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock();
        if let Some((known, limiter)) = limiters.get(&producer.name)
            && *known == rate
        {
            return Arc::clone(limiter);
        }
        let limiter = Arc::new(RateLimiter::direct(quota(rate)));
        limiters.insert(producer.name.clone(), (rate, Arc::clone(&limiter)));
        limiter
    }
}

fn quota(rate: RateLimit) -> Quota {
    let one = (rate.period / rate.count.get()).max(Duration::from_nanos(1));
    // The period is above zero, so there always is a quota.
    Quota::with_period(one).map_or_else(
        || Quota::per_second(rate.count),
        |quota| quota.allow_burst(rate.count),
    )
}

fn described(period: Duration) -> String {
    match period.as_secs() {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3600 => "hour".to_owned(),
        _ => format!("{period:?}"),
    }
}
