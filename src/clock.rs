//! The time, asked for in one place.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the system's clock")]

/// The time of day, UTC.
#[must_use]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Seconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn unix_seconds() -> i64 {
    now().as_second()
}
