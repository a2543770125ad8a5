//! Session tickets (RFC 8446 4.6.1, RFC 5077) that hold for one host only.
//!
//! One ticketer serves all hosts: a ticketer of its own for each would cost keys and their turning per host. But rustls
//! binds a ticket to the SNI alone, and that is the client's word: with a ticket of `a` it could open a session with the
//! configuration of `b` by naming `a` again, and two IP addresses, which have no SNI, would share theirs. So each
//! ticket begins, under the ticketer's own encryption, with a digest of the host that it was made for.

use std::sync::Arc;

use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};

const TAG: usize = 16;

/// The shared ticketer as one host sees it.
#[derive(Debug)]
pub(super) struct HostTickets {
    shared: Arc<dyn ProducesTickets>,
    tag: [u8; TAG],
}

impl HostTickets {
    /// Tickets for `purpose`: a host, or a listener.
    pub(super) fn new(shared: Arc<dyn ProducesTickets>, purpose: &str) -> Self {
        let digest = Sha256::digest(purpose);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&digest[..TAG]);
        Self { shared, tag }
    }
}

impl ProducesTickets for HostTickets {
    fn enabled(&self) -> bool {
        self.shared.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.shared.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let tagged = zeroize::Zeroizing::new([&self.tag, plain].concat());
        self.shared.encrypt(&tagged)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.shared.decrypt(cipher)?;
        // The ticketer's MAC has held: the tag is our own writing, and comparing it tells nobody anything.
        plain.starts_with(&self.tag).then(|| plain.split_off(TAG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_host_alone() {
        let shared = rustls::crypto::aws_lc_rs::Ticketer::new().expect("made");
        let (a, b) = (HostTickets::new(Arc::clone(&shared), "a"), HostTickets::new(Arc::clone(&shared), "b"));
        let ticket = a.encrypt(b"state").expect("made");
        assert_eq!(a.decrypt(&ticket).expect("its own"), b"state");
        assert_eq!(b.decrypt(&ticket), None);
        assert_eq!(a.decrypt(&shared.encrypt(b"short").expect("made")), None);
        assert_eq!(a.decrypt(b"noise"), None);
    }
}
