//! The process's environment, read in one place, and the places of the system that it is not asked for.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]

use std::ffi::OsString;
use std::path::PathBuf;

/// Bundles of anchors as systems place them; the first that is there is read.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Gentoo, NixOS
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL 7 and later
    "/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
    "/etc/ssl/ca-bundle.pem",                            // SUSE
    "/etc/ssl/cert.pem",                                 // Alpine, macOS, OpenBSD
    "/usr/local/etc/ssl/cert.pem",                       // FreeBSD
    "/usr/local/share/certs/ca-root-nss.crt",            // DragonFly
    "/etc/openssl/certs/ca-certificates.crt",            // NetBSD
    "/etc/certs/ca-certificates.crt",                    // illumos, Solaris
];
/// Directories of anchors, each of which is read: a certificate may be in one and in no bundle.
const DIRECTORIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/local/share/certs", "/etc/openssl/certs", "/etc/certs/CA"];

/// A variable's value; an empty one counts as unset.
#[must_use]
pub fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// All variables.
pub fn all() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Where this system keeps its trust anchors, by the usual names alone and never by a variable: a bundle, and directories.
#[must_use]
pub fn trust_anchors() -> (Option<PathBuf>, Vec<PathBuf>) {
    let there = |paths: &[&str]| paths.iter().map(PathBuf::from).filter(|p| p.exists()).collect::<Vec<_>>();
    (there(BUNDLES).into_iter().next(), there(DIRECTORIES))
}
