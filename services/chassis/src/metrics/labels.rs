//! Labels of fixed cardinality: the values of a label are the variants of an enum, never text from outside.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// An enum whose variants are the values of a metric's label. [`metric_label!`](crate::metric_label) makes one.
pub trait MetricLabel: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every variant, each at the place that [`MetricLabel::index`] gives.
    const ALL: &'static [Self];

    /// The label's value.
    fn as_str(self) -> &'static str;

    /// Its place in [`MetricLabel::ALL`].
    fn index(self) -> usize;
}

/// Makes an enum that is a metric's label.
///
/// ```
/// carillon_chassis::metric_label! {
///     /// Why a session was closed.
///     pub enum CloseReason as "reason" {
///         /// Its outbox was full.
///         Slow = "slow",
///         /// The gateway was drained.
///         Drained = "drained",
///     }
/// }
/// ```
#[macro_export]
macro_rules! metric_label {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident as $label:literal {
            $($(#[$variant_attribute:meta])* $variant:ident = $value:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant),+
        }

        impl $crate::metrics::MetricLabel for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

macro_rules! metric_by {
    ($(#[$attribute:meta])* $name:ident, $vector:ty, $metric:ty) => {
        $(#[$attribute])*
        ///
        /// Every series exists from the start, at zero, so that a rate over it is right from its first event.
        #[derive(Debug)]
        pub struct $name<L> {
            series: std::sync::Arc<[$metric]>,
            label: std::marker::PhantomData<fn(L)>,
        }

        impl<L> Clone for $name<L> {
            fn clone(&self) -> Self {
                Self { series: std::sync::Arc::clone(&self.series), label: std::marker::PhantomData }
            }
        }

        impl<L: MetricLabel> $name<L> {
            pub(super) fn of(vector: &$vector) -> Self {
                let series = L::ALL.iter().map(|value| vector.with_label_values(&[value.as_str()])).collect();
                Self { series, label: std::marker::PhantomData }
            }

            /// The series of one value. No look-up: it is an index.
            pub fn with(&self, value: L) -> &$metric {
                &self.series[value.index()]
            }
        }
    };
}

metric_by!(
    /// Counters by a label.
    CounterBy, IntCounterVec, IntCounter
);
metric_by!(
    /// Gauges by a label.
    GaugeBy, IntGaugeVec, IntGauge
);
metric_by!(
    /// Histograms by a label.
    HistogramBy, HistogramVec, Histogram
);

impl<L: MetricLabel> CounterBy<L> {
    /// Counts one.
    pub fn inc(&self, value: L) {
        self.with(value).inc();
    }
}
