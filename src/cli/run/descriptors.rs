//! What the command does not inherit: every open descriptor but the three standard ones.
#![expect(unsafe_code, reason = "an inherited descriptor has no owner in this process and is known by its number alone")]

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Has every descriptor from 3 up closed when the command is executed. Our own are so from their opening; this is
/// about those that the operator's shell handed to us. To be called before anything else is opened.
pub(super) fn keep_standard_only() {
    // Where there is neither directory, nothing can be listed and nothing is closed.
    let Ok(open) = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd")) else { return };
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|n| *n > 2).collect();
    for number in numbers {
        // SAFETY: the number was that of an open descriptor a moment ago, and the borrow ends with this statement. If it
        // was closed since (that of the listing itself was), the system answers EBADF and nothing happens.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::fcntl_getfd;

    #[test]
    fn an_inherited_descriptor_is_not_handed_on() {
        let file = tempfile::tempfile().expect("a file");
        fcntl_setfd(&file, FdFlags::empty()).expect("as a shell hands it on");
        keep_standard_only();
        assert!(fcntl_getfd(&file).expect("open").contains(FdFlags::CLOEXEC));
        assert!(!fcntl_getfd(std::io::stderr()).expect("open").contains(FdFlags::CLOEXEC));
    }
}
