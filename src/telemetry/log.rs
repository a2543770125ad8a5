//! The log (being built)
