//! A histogram of durations that takes no lock: the library's own takes one at each observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Clones share their counts.
#[derive(Debug, Clone)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds in seconds, and how many fell between the one before and this; the last is infinity.
    counts: Box<[(f64, AtomicU64)]>,
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// The bounds, in seconds, go up; infinity is added.
    pub(super) fn new(bounds: &[f64]) -> Self {
        let counts = bounds.iter().copied().chain([f64::INFINITY]).map(|bound| (bound, AtomicU64::new(0))).collect();
        Self(Arc::new(Buckets { counts, sum_nanos: AtomicU64::new(0) }))
    }

    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some((_, count)) = self.0.counts.iter().find(|(bound, _)| seconds <= *bound) {
            super::add_one(count);
        }
        self.0.sum_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let counts: Vec<_> = self.0.counts.iter().map(|(bound, n)| (*bound, n.load(Ordering::Relaxed))).collect();
        let sum = Duration::from_nanos(self.0.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        // The count is that of the buckets just read, so that the two always agree.
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().map(|(_, n)| n).sum(), &counts, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
