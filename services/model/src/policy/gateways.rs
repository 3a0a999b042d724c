//! The knobs of gateways that may change while they run.

use super::{
    RateLimit,
    checks::rate,
    document::{GatewaysDocument, PolicyError},
};

/// What a policy says to all gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayKnobs {
    /// Sessions that a draining gateway hands over, instead of its own setting `gateway.drain.rate`.
    pub drain_rate: Option<RateLimit>,
    /// How gateways with many sessions give some to those with few; `None`: they do not.
    pub rebalance: Option<Rebalance>,
}

/// How a gateway with more sessions than its share gives them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Sessions whose transport is closed, by each gateway that has too many.
    pub rate: RateLimit,
    /// By how much a gateway may be above the mean of all, in percent.
    pub within: u32,
}

impl Rebalance {
    /// Where nothing else was said.
    pub const WITHIN: u32 = 15;
}

pub(super) fn checked(gateways: GatewaysDocument) -> Result<GatewayKnobs, Vec<PolicyError>> {
    let mut mistakes = Vec::new();
    let mistake = |path: &str, message: String| PolicyError {
        path: format!("gateways.{path}"),
        message,
    };
    let sessions = |path: &str, text: &str, mistakes: &mut Vec<PolicyError>| {
        rate(text)
            .and_then(at_least_one_an_hour)
            .map_err(|message| mistakes.push(mistake(path, message)))
            .ok()
    };
    let drain_rate = gateways
        .drain_rate
        .and_then(|text| sessions("drain_rate", &text, &mut mistakes));
    let rebalance = gateways.rebalance.and_then(|rebalance| {
        let rate = sessions("rebalance.rate", &rebalance.rate, &mut mistakes);
        let within = rebalance.within.unwrap_or(Rebalance::WITHIN);
        if !(5..=100).contains(&within) {
            let message = format!(
                "{within} is not from 5 to 100: percent above the mean; closer to it, sessions would be sent about for ever"
            );
            mistakes.push(mistake("rebalance.within", message));
        }
        rate.map(|rate| Rebalance { rate, within })
    });
    if mistakes.is_empty() {
        Ok(GatewayKnobs {
            drain_rate,
            rebalance,
        })
    } else {
        Err(mistakes)
    }
}

/// A rate of sessions: one that is slower moves nobody while somebody watches, and is a mistake.
fn at_least_one_an_hour(rate: RateLimit) -> Result<RateLimit, String> {
    if rate.per_second() * 3600.0 < 1.0 {
        return Err("must be at least `1/h`; leave it out to say nothing".to_owned());
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn the_knobs_of_gateways_are_checked_together() {
        let policy =
            Policy::parse_yaml("gateways: { drain_rate: 100/s, rebalance: { rate: 600/m } }").unwrap();
        assert_eq!(policy.gateways().drain_rate.unwrap().per_second(), 100.0);
        let rebalance = policy.gateways().rebalance.unwrap();
        assert_eq!((rebalance.rate.per_second(), rebalance.within), (10.0, 15));
        assert_eq!(
            *Policy::parse_yaml("").unwrap().gateways(),
            GatewayKnobs::default()
        );
        let mistakes =
            Policy::parse_yaml("gateways: { drain_rate: quick, rebalance: { rate: 1/1000h, within: 1 } }")
                .unwrap_err();
        let paths: Vec<&str> = mistakes.0.iter().map(|mistake| &*mistake.path).collect();
        let expected = [
            "gateways.drain_rate",
            "gateways.rebalance.rate",
            "gateways.rebalance.within",
        ];
        assert_eq!(paths, expected, "{mistakes}");
        for unknown in [
            "{ drains: 1/s }",
            "{ rebalance: { rate: 1/s, until: 3 } }",
            "{ rebalance: {} }",
        ] {
            assert!(
                Policy::parse_yaml(&format!("gateways: {unknown}")).is_err(),
                "{unknown}"
            );
        }
    }
}
