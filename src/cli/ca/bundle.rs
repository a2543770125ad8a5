//! x
pub(crate) fn bundle() {}
