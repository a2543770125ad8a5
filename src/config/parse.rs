//! From the text of `keyhatch.toml` to a [`Config`]: every key, its values, and what must hold between keys.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::reader::{Item, Table, read_document};
use super::units::{DURATION_FORM, SIZE_FORM, parse_duration, parse_size};
use super::vault::vault;
use super::{
    AdminConfig, AgentLimits, AuditConfig, Config, ConfigError, EgressConfig, Limits, ListenAddr, ProxyConfig, StoreConfig, Timeouts, UnlockMethod,
    UpstreamConfig,
};
use crate::credential::check_path;
use crate::host::{Authority, Host, HostPattern};

const LISTEN_FORM: &str = "an IP address and port such as \"127.0.0.1:8877\" or \"[::1]:8877\", or \"unix:/path\"";
const ADDRESS_FORM: &str = "an IP address and port such as \"127.0.0.1:8879\", or \"\" for none";
const PATTERN_FORM: &str = "host patterns: \"example.com\", \"*.example.com\", \"api-*.example.com\", each with \":PORT\" or \":*\"";
const CIDR_FORM: &str = "CIDR blocks such as \"10.1.0.0/16\" or \"fd00::/8\", or single addresses";
const AUTHORITY_FORM: &str = "\"HOST:PORT\" = \"HOST:PORT\"";
const URL_FORM: &str = "\"http://HOST:PORT\" or \"https://HOST:PORT\"";

const TRANSIT_FORM: &str = "the name of a transit key such as \"keyhatch\", or \"MOUNT/NAME\"";

/// The largest number of connections, requests or tunnels that can be asked for.
const MAX_COUNT: u64 = 10_000_000;
/// The shortest limit of a request head: no request that is worth a proxy has less.
const MIN_HEAD: u64 = 1 << 10;
/// The longest request head that can be asked for: 16 MiB.
const MAX_HEAD: u64 = 16 << 20;

/// Reads the text of a configuration file; `file` names it in errors, and relative paths in it begin at its directory.
///
/// # Errors
/// [`ConfigError`] with file, line, key and the values allowed.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    read_document(file, text, |root| {
        Ok(Config {
            proxy: root.table("proxy", proxy)?,
            admin: root.table("admin", admin)?,
            egress: root.table("egress", egress)?,
            resolve: root.free_table("resolve", resolve)?,
            upstream: root.table("upstream", upstream)?,
            timeouts: root.table("timeouts", timeouts)?,
            limits: root.table("limits", limits)?,
            store: root.table("store", store)?,
            audit: root.table("audit", audit)?,
            vault: root.table("vault", vault)?,
        })
    })
}

fn proxy(t: &Table<'_, '_>) -> Result<ProxyConfig, ConfigError> {
    let default = ProxyConfig::default();
    let tls_cert = t.opt("tls_cert", Item::path)?;
    let tls_key = t.opt("tls_key", Item::path)?;
    let out = ProxyConfig {
        listen: t.or("listen", default.listen, listen_addr)?,
        tls_listen: t.or("tls_listen", None, address)?,
        tls_cert: tls_cert.clone().zip(tls_key.clone()),
        tls_names: t.or("tls_names", Vec::new(), |i| {
            let form = "host names and IP addresses";
            i.list(form, |name| name.parse(form, |text| Host::parse(text).map(|_| text.to_owned())))
        })?,
        advertise: t.or("advertise", None, |i| match i.str(URL_FORM)? {
            "" => Ok(None),
            _ => i.parse(URL_FORM, proxy_url).map(Some),
        })?,
        auth_required: t.or("auth", true, |i| i.choice(&[("required", true), ("off", false)]))?,
        allow_cleartext: t.or("allow_cleartext", false, Item::bool)?,
    };
    pair(t, ("tls_cert", tls_cert.is_some()), ("tls_key", tls_key.is_some()))?;
    check_exposure(t, &out)?;
    if out.tls_listen.is_some() && out.tls_cert.is_none() && out.tls_names.is_empty() {
        fail(
            t,
            "tls_listen",
            "it has no certificate and no name for one",
            "`tls_names` beside it (as agents name the proxy), or `tls_cert` and `tls_key`",
        )?;
    }
    Ok(out)
}

/// What the files hold that a key names.
pub(super) fn file_form(key: &str) -> Option<&'static str> {
    Some(match key {
        "proxy.tls_cert" => "a PEM file with a certificate chain",
        "proxy.tls_key" => "a PEM file with the certificate's private key",
        "admin.token_file" => "a file with 16 or more visible ASCII characters on one line",
        "upstream.extra_ca_files" => "PEM files with certificates",
        "upstream.crl_files" => "PEM files with revocation lists",
        "vault.ca_file" => "a PEM file with certificates",
        "vault.client_cert" => "a PEM file with a certificate chain",
        "vault.client_key" => "a PEM file with the certificate's private key",
        _ => return None,
    })
}

/// Two keys that only make sense together.
fn pair(t: &Table<'_, '_>, a: (&'static str, bool), b: (&'static str, bool)) -> Result<(), ConfigError> {
    let (there, missing) = match (a.1, b.1) {
        (true, false) => (a.0, b.0),
        (false, true) => (b.0, a.0),
        _ => return Ok(()),
    };
    fail(t, there, &format!("it needs `{missing}` beside it"), "both of the two keys, or neither")
}

/// What is reachable from other machines must be meant so, and must ask for a token.
fn check_exposure(t: &Table<'_, '_>, c: &ProxyConfig) -> Result<(), ConfigError> {
    let exposed = |addr: &SocketAddr| !addr.ip().is_loopback();
    let listen_exposed = matches!(&c.listen, ListenAddr::Tcp(addr) if exposed(addr));
    let tls_exposed = c.tls_listen.as_ref().is_some_and(exposed);
    if !c.auth_required && (listen_exposed || tls_exposed) {
        return fail(
            t,
            "auth",
            "\"off\" is refused where a listener is not on loopback",
            "\"required\", or loopback addresses in `listen` and `tls_listen`",
        );
    }
    if listen_exposed && !c.allow_cleartext {
        let why = "the address is not on loopback, and agents' tokens would cross the network in the clear";
        return fail(t, "listen", why, "a loopback address, `tls_listen` in its stead, or `allow_cleartext = true` beside it");
    }
    Ok(())
}

/// An error at a key that is known to be there.
pub(super) fn fail(t: &Table<'_, '_>, key: &'static str, why: &str, allowed: &str) -> Result<(), ConfigError> {
    t.opt(key, |i| Err::<(), _>(i.error(why, allowed))).map(|_| ())
}

fn admin(t: &Table<'_, '_>) -> Result<AdminConfig, ConfigError> {
    let out = AdminConfig { listen: t.or("listen", AdminConfig::default().listen, address)?, token_file: t.opt("token_file", Item::path)? };
    if out.token_file.is_none() && out.listen.is_some_and(|a| !a.ip().is_loopback()) {
        fail(t, "listen", "the address is not on loopback, and there is no `token_file`", "a loopback address, or `token_file` beside it")?;
    }
    Ok(out)
}

fn egress(t: &Table<'_, '_>) -> Result<EgressConfig, ConfigError> {
    let default = EgressConfig::default();
    Ok(EgressConfig {
        allow_by_default: t.or("default", true, |i| i.choice(&[("allow", true), ("deny", false)]))?,
        allow_hosts: t.or("allow_hosts", Vec::new(), patterns)?,
        deny_hosts: t.or("deny_hosts", Vec::new(), patterns)?,
        ports: t.or("ports", default.ports, |i| {
            i.list("a list of ports from 1 to 65535", |p| Ok(u16::try_from(p.integer(1, 65_535)?).expect("checked to be at most 65535")))
        })?,
        allow_private: t.or("private_addresses", false, |i| i.choice(&[("deny", false), ("allow", true)]))?,
        allow_cidrs: t.or("allow_cidrs", Vec::new(), |i| i.list(CIDR_FORM, |c| c.parse(CIDR_FORM, cidr)))?,
    })
}

pub(super) fn patterns(i: &Item<'_, '_>) -> Result<Vec<HostPattern>, ConfigError> {
    i.list(PATTERN_FORM, |p| p.parse(PATTERN_FORM, HostPattern::parse))
}

fn resolve(t: &Table<'_, '_>) -> Result<Vec<(Authority, Authority)>, ConfigError> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (name, item) in t.entries() {
        let from = Authority::parse(name, None).map_err(|e| item.error(e.to_string(), AUTHORITY_FORM))?;
        let to = item.parse(AUTHORITY_FORM, |text| Authority::parse(text, None))?;
        if !seen.insert(from.clone()) {
            return Err(item.error(format!("{from} has an entry already"), "one entry for each host and port"));
        }
        out.push((from, to));
    }
    Ok(out)
}

fn upstream(t: &Table<'_, '_>) -> Result<UpstreamConfig, ConfigError> {
    let paths = |i: &Item<'_, '_>| i.list("a list of paths", Item::path);
    Ok(UpstreamConfig { extra_ca_files: t.or("extra_ca_files", Vec::new(), paths)?, crl_files: t.or("crl_files", Vec::new(), paths)? })
}

fn timeouts(t: &Table<'_, '_>) -> Result<Timeouts, ConfigError> {
    let default = Timeouts::default();
    Ok(Timeouts {
        connect: t.or("connect", default.connect, some_time)?,
        tls: t.or("tls", default.tls, some_time)?,
        request_head: t.or("request_head", default.request_head, some_time)?,
        idle: t.or("idle", default.idle, some_time)?,
        drain: t.or("drain", default.drain, duration)?,
    })
}

fn limits(t: &Table<'_, '_>) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let connections = t.or("connections", default.connections, count)?;
    let requests = t.or("requests", default.requests, count)?;
    let tunnels = t.or("tunnels", default.tunnels, count)?;
    let head_bytes = t.or("head_bytes", default.head_bytes, head_bytes)?;
    let share = AgentLimits::share_of(connections, requests, tunnels, head_bytes);
    let per_agent = t.get("per_agent").map_or(Ok(share.clone()), |item| item.into_table(|p| agent_limits(p, &share)))?;
    Ok(Limits { connections, requests, tunnels, head_bytes, per_agent })
}

fn agent_limits(t: &Table<'_, '_>, default: &AgentLimits) -> Result<AgentLimits, ConfigError> {
    Ok(AgentLimits {
        connections: t.or("connections", default.connections, count)?,
        requests: t.or("requests", default.requests, count)?,
        tunnels: t.or("tunnels", default.tunnels, count)?,
        head_bytes: t.or("head_bytes", default.head_bytes, head_bytes)?,
    })
}

fn store(t: &Table<'_, '_>) -> Result<StoreConfig, ConfigError> {
    let methods = [UnlockMethod::Passphrase, UnlockMethod::KeyFile, UnlockMethod::VaultTransit].map(|m| (m.word(), m));
    let unlock = t.opt("unlock", |i| i.choice(&methods))?;
    let key_file: Option<PathBuf> = t.opt("key_file", Item::path)?;
    let transit_key = t.opt("transit_key", |i| i.parse(TRANSIT_FORM, transit_key))?;
    if let Some(method) = unlock.filter(|m| key_file.is_some() && *m != UnlockMethod::KeyFile) {
        let why = format!("it does nothing under unlock = \"{}\"", method.word());
        fail(t, "key_file", &why, "unlock = \"key-file\", or no `key_file`")?;
    }
    match unlock {
        Some(UnlockMethod::VaultTransit) if transit_key.is_none() => {
            fail(t, "unlock", "\"vault-transit\" needs `transit_key` beside it", TRANSIT_FORM)?;
        }
        Some(UnlockMethod::Passphrase | UnlockMethod::KeyFile) if transit_key.is_some() => {
            fail(t, "transit_key", "it is for unlock = \"vault-transit\"", "unlock = \"vault-transit\", or no `transit_key`")?;
        }
        _ => {}
    }
    Ok(StoreConfig { unlock, key_file, transit_key })
}

/// Mount and name of a transit key; the mount is `transit` where the text is a name alone.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn transit_key(text: &str) -> Result<String, &'static str> {
    let whole = if text.contains('/') { text.to_owned() } else { format!("transit/{text}") };
    check_path(&whole).map(str::to_owned).ok_or("this is no key's name")
}

fn audit(t: &Table<'_, '_>) -> Result<AuditConfig, ConfigError> {
    let default = AuditConfig::default();
    Ok(AuditConfig {
        max_size: t.or("max_size", default.max_size, |i| size(i, (1, u64::MAX), "\"1B\" or more"))?,
        keep: t.or("keep", default.keep, |i| Ok(u32::try_from(i.integer(0, 100_000)?).expect("checked to be at most 100000")))?,
        deny_on_failure: t.or("on_failure", false, |i| i.choice(&[("allow", false), ("deny", true)]))?,
    })
}

fn listen_addr(i: &Item<'_, '_>) -> Result<ListenAddr, ConfigError> {
    let text = i.str(LISTEN_FORM)?;
    match text.strip_prefix("unix:") {
        Some("") => Err(i.error("the path is empty", LISTEN_FORM)),
        Some(path) => Ok(ListenAddr::Unix(i.beside(path))),
        None => i.parse(LISTEN_FORM, socket_addr).map(ListenAddr::Tcp),
    }
}

fn address(i: &Item<'_, '_>) -> Result<Option<SocketAddr>, ConfigError> {
    match i.str(ADDRESS_FORM)? {
        "" => Ok(None),
        _ => i.parse(ADDRESS_FORM, socket_addr).map(Some),
    }
}

/// A listener takes an address: a name could come to mean another interface.
fn socket_addr(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "this is no IP address and port")
}

fn cidr(text: &str) -> Result<IpNet, &'static str> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| "this is no CIDR block")?;
    if net.trunc() == net { Ok(net) } else { Err("this block has bits set beyond its prefix") }
}

/// A proxy URL as clients take it; it carries no user, since `env` puts the agent's in.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn proxy_url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").ok_or("a URL begins with its scheme")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err("the scheme is neither http nor https".to_owned()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let authority = Authority::parse(authority, Some(default_port)).map_err(|e| e.to_string())?;
    Ok(format!("{scheme}://{authority}"))
}

pub(super) fn duration(i: &Item<'_, '_>) -> Result<Duration, ConfigError> {
    i.parse(DURATION_FORM, |text| parse_duration(text).ok_or("this is no duration"))
}

/// A duration of more than nothing.
pub(super) fn some_time(i: &Item<'_, '_>) -> Result<Duration, ConfigError> {
    let out = duration(i)?;
    if out.is_zero() { Err(i.error("nothing could be done in no time", "more than \"0s\"")) } else { Ok(out) }
}

fn size(i: &Item<'_, '_>, (min, max): (u64, u64), allowed: &str) -> Result<u64, ConfigError> {
    let out = i.parse(SIZE_FORM, |text| parse_size(text).ok_or("this is no size"))?;
    if (min..=max).contains(&out) { Ok(out) } else { Err(i.error("the size is out of range", allowed)) }
}

fn head_bytes(i: &Item<'_, '_>) -> Result<usize, ConfigError> {
    Ok(usize::try_from(size(i, (MIN_HEAD, MAX_HEAD), "from \"1KiB\" to \"16MiB\"")?).expect("checked to be at most 16 MiB"))
}

fn count(i: &Item<'_, '_>) -> Result<usize, ConfigError> {
    Ok(usize::try_from(i.integer(1, MAX_COUNT)?).expect("checked to be at most ten million"))
}
