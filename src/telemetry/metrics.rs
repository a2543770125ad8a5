//! Metrics (being built)
