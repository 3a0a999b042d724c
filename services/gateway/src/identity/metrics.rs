//! What is counted of keys.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Counters of the fetches of a key set. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdentityMetrics {
    pub(super) fetches: IntCounterVec,
    pub(super) keys: IntGauge,
}

impl IdentityMetrics {
    /// Registers everything; fails if a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let fetches = IntCounterVec::new(
            Opts::new(
                "carillon_gateway_jwks_fetches_total",
                "Fetches of the key set for tokens, by outcome.",
            ),
            &["outcome"],
        )?;
        for outcome in ["ok", "failed"] {
            fetches.with_label_values(&[outcome]);
        }
        let keys = IntGauge::new(
            "carillon_gateway_jwks_keys",
            "Keys of the key set that tokens are checked with.",
        )?;
        registry.register(Box::new(fetches.clone()))?;
        registry.register(Box::new(keys.clone()))?;
        Ok(Self { fetches, keys })
    }
}
