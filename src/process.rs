//! What a process that holds secrets asks of its system.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Makes no core dumps, lets no other process of the same user read this one's memory, and takes as many descriptors
/// as it may. What the system refuses is logged and no reason to stop.
pub fn harden() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::debug!("core dumps cannot be switched off: {error}");
    }
    hide_memory();
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!("the limit of open descriptors stays {:?}: {error}", limit.current);
    }
}

/// Lets no other process of the same user read this one's memory. Unlike limits this is not handed on to a child.
pub fn hide_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!("the process stays open to ptrace: {error}");
    }
}
