//! Hosts that match no credential.

use crate::host::{Authority, HostPattern, PatternPort};

/// The rules of `[egress]` about names and ports. Addresses are judged when they are known: [`crate::host::refusal`].
#[derive(Debug, Clone)]
pub struct Egress {
    /// Whether what no rule names may go out.
    pub allow_by_default: bool,
    /// Names allowed where the default is to refuse; one that names a port allows that port.
    pub allow_hosts: Vec<HostPattern>,
    /// Names refused before everything else.
    pub deny_hosts: Vec<HostPattern>,
    /// The ports allowed for what matches no credential.
    pub ports: Vec<u16>,
}

/// Which egress rule refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressRefusal {
    /// `deny_hosts`.
    DeniedHost,
    /// `default = "deny"`, and no pattern of `allow_hosts` covers the host.
    NotAllowed,
    /// `ports`.
    Port,
}

impl Egress {
    /// Whether `deny_hosts` names the host; a pattern without a port covers every port here, since it refuses.
    #[must_use]
    pub fn denies(&self, authority: &Authority) -> bool {
        let port = [authority.port];
        self.deny_hosts.iter().any(|p| p.matches(authority, &port))
    }

    /// Judges a host that matches no credential.
    ///
    /// # Errors
    /// [`EgressRefusal`] names the rule that refuses.
    pub fn judge(&self, authority: &Authority) -> Result<(), EgressRefusal> {
        if self.denies(authority) {
            return Err(EgressRefusal::DeniedHost);
        }
        let named = |p: &HostPattern| p.port() != PatternPort::Default && p.matches(authority, &[]);
        if self.allow_hosts.iter().any(named) {
            return Ok(());
        }
        if !self.allow_by_default && !self.allow_hosts.iter().any(|p| p.port() == PatternPort::Default && p.matches_host(&authority.host)) {
            return Err(EgressRefusal::NotAllowed);
        }
        if self.ports.contains(&authority.port) { Ok(()) } else { Err(EgressRefusal::Port) }
    }
}
