//! Which addresses are not connected to: what is no public one, unless the operator allows it, and whatever he allows, our own
//! listeners and Vault.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::dial::{DialError, DialErrorKind};
use super::resolve::Resolver;
use super::vaults::Vaults;
use crate::host::{Authority, ends, refusals};

/// What is never connected to, whatever is allowed. One value serves a process, so that no reload forgets any of it.
#[derive(Clone, Default)]
pub struct OffLimits {
    /// Our own listeners.
    pub listeners: Vec<SocketAddr>,
    /// Where Vault is.
    pub vaults: Arc<Vaults>,
}

/// What addresses are judged by.
#[derive(Clone, Default)]
pub struct Guard {
    /// `private_addresses = "allow"`
    pub allow_private: bool,
    /// `allow_cidrs`
    pub allow_cidrs: Vec<IpNet>,
    /// What none of these opens.
    pub off_limits: OffLimits,
}

/// What the operator is told.
const OWN_LISTENER: &str = "the address is the proxy's own listener";
const VAULTS_OWN: &str = "the address is Vault's own";

impl Guard {
    /// Refuses Vault by the name that it is asked under.
    pub(super) fn check_name(&self, authority: &Authority) -> Result<(), DialError> {
        if self.off_limits.vaults.is_named(authority) { Err(refused(VAULTS_OWN)) } else { Ok(()) }
    }

    /// Refuses addresses of which one leads to a listener of ours or to Vault. Vault's own addresses are looked up for it where its port is
    /// dialled, within the limit.
    pub(super) async fn check_reserved(&self, addresses: &[SocketAddr], resolver: &Resolver, limit: Duration) -> Result<(), DialError> {
        let Some(port) = addresses.first().map(SocketAddr::port) else { return Ok(()) };
        let vaults = self.off_limits.vaults.addresses(port, resolver, limit).await?;
        if vaults.is_empty() && self.listeners_at(port).next().is_none() {
            return Ok(());
        }
        for address in addresses {
            let here = is_here(address.ip());
            let unspecified = ends(address.ip()).any(|ip| ip.to_canonical().is_unspecified());
            if self.listeners_at(port).any(|own| meet(own, address) || unspecified || (here && own.ip().is_unspecified())) {
                return Err(refused(OWN_LISTENER).at(*address));
            }
            if vaults.iter().any(|vault| meet(vault, address) || (here && is_here(vault.ip()))) {
                return Err(refused(VAULTS_OWN).at(*address));
            }
        }
        Ok(())
    }

    /// Refuses what is no public address and not allowed. An IPv6 form that holds an IPv4 address is allowed where both are.
    pub(super) fn check_public(&self, address: SocketAddr) -> Result<(), DialError> {
        let ip = address.ip();
        let listed = |ip: IpAddr| self.allow_cidrs.iter().any(|net| net.contains(&ip));
        match refusals(ip).find(|(of, _)| !self.allow_private && !listed(*of) && !listed(of.to_canonical())) {
            None => Ok(()),
            Some((_, why)) => Err(refused(&format!("{ip} is not a public address ({why}); [egress] allow_cidrs can allow it")).at(address)),
        }
    }

    /// Refuses a connection that came out at a listener of ours after all: wherever it comes from the address that it goes to, it is on
    /// this machine.
    pub(super) fn check_connected(&self, peer: SocketAddr, local: Option<SocketAddr>) -> Result<(), DialError> {
        let stays = local.is_some_and(|local| local.ip().to_canonical() == peer.ip().to_canonical());
        let ours = self.listeners_at(peer.port()).any(|own| own.ip().is_unspecified() && stays);
        if ours { Err(refused(OWN_LISTENER).at(peer)) } else { Ok(()) }
    }

    fn listeners_at(&self, port: u16) -> impl Iterator<Item = &SocketAddr> {
        self.off_limits.listeners.iter().filter(move |own| own.port() == port)
    }
}

fn refused(why: &str) -> DialError {
    DialError::new(DialErrorKind::PrivateAddress, why)
}

/// Whether connections to the two may end at one address.
fn meet(one: &SocketAddr, other: &SocketAddr) -> bool {
    ends(one.ip()).any(|ip| ends(other.ip()).any(|end| end.to_canonical() == ip.to_canonical()))
}

/// Whether an address, in any form, is one of this machine's own. Where that cannot be asked it is taken for one.
fn is_here(ip: IpAddr) -> bool {
    ends(ip).map(|ip| ip.to_canonical()).any(|ip| ip.is_unspecified() || ip.is_loopback() || comes_from(ip).is_none_or(|own| own == ip))
}

/// The address that this machine would send from to another one: that one itself where it is an interface's. No packet is sent, and
/// unlike `bind` it does not lie under `ip_nonlocal_bind`.
fn comes_from(ip: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = match UdpSocket::bind((any, 0)) {
        Ok(socket) => socket,
        // A machine without IPv6 has no such address.
        Err(error) if error.kind() == ErrorKind::Unsupported || error.kind() == ErrorKind::AddrNotAvailable => return Some(any),
        Err(_) => return None,
    };
    // Without a way there it is nobody's, and not ours.
    Some(socket.connect((ip, 9)).and_then(|()| socket.local_addr()).map_or(any, |own| own.ip().to_canonical()))
}

#[cfg(test)]
mod tests;
