//! What a process that holds secrets asks of its system.

use std::os::fd::RawFd;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Makes no core dumps, lets no other process of the same user read this one's memory, keeps all of it from the swap where it
/// may without limit, and takes as many descriptors as it may. What the system refuses is logged and no reason to stop.
pub fn harden() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::debug!("core dumps cannot be switched off: {error}");
    }
    hide_memory();
    lock_memory();
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!("the limit of open descriptors stays {:?}: {error}", limit.current);
    }
}

/// Locks all memory, that of today and of tomorrow, once it is used. What is set aside for secrets is locked in any case; this is
/// for the buffers of the libraries. Only without a limit: with one, memory that is asked for later would be refused.
fn lock_memory() {
    if getrlimit(Resource::Memlock).current.is_none()
        && let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    {
        tracing::debug!("memory is not locked as a whole: {error}");
    }
}

/// Lets no other process of the same user read this one's memory. Unlike limits this is not handed on to a child.
pub fn hide_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!("the process stays open to ptrace: {error}");
    }
}

/// Descriptors that a running proxy holds for itself: listeners, the store, the audit log, Vault.
const OWN: u64 = 48;
/// So many, or an eighth, are kept for what must go on when all others are taken: a log's next file, the store,
/// `admin.sock`, a look-up.
const SPARE: u64 = 16;

/// How many client connections the limit of descriptors has room for: each may need another one to an origin. `None` where
/// there is no such limit.
pub fn room_for_connections() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from((limit.saturating_sub(OWN) / 2).max(limit / 8)).unwrap_or(usize::MAX).max(1))
}

/// Whether a descriptor that was just opened is one of the last. The system gives the lowest number that is free, so that
/// all below it are taken.
pub fn is_spare(descriptor: RawFd) -> bool {
    getrlimit(Resource::Nofile).current.is_some_and(|limit| u64::from(descriptor.unsigned_abs()) + SPARE.min(limit / 8) >= limit)
}
