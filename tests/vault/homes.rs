//! Homes that know a server.

use crate::support::world::{HOSTS, configuration};
use crate::support::{Bao, Home, Origin, fresh_key};

/// `[vault]` of everything that a home without a store needs.
pub const NO_STORE: &str = "discover = \"secret/keyhatch\"\ndiscover_agents = \"secret/keyhatch-agents\"\nca = \"secret/keyhatch-ca\"\nsigning_key = \"secret/keyhatch-keys\"\n";

/// `[vault]` with the server's address, and more keys.
pub fn section(bao: &Bao, more: &str) -> String {
    format!("[vault]\naddress = \"{}\"\n{more}\n", bao.addr())
}

/// A home whose `[vault]` leads to the server, as its root, and whose hosts lead to the origin; nothing is made in it.
#[track_caller]
pub fn bare(bao: &Bao, origin: &Origin, more: &str) -> Home {
    let mut home = Home::bare("");
    home.configure(&configuration(&home, origin, &section(bao, more)));
    home.set("VAULT_TOKEN", Some(bao.root_token()));
    home.set("KEYHATCH_PASSPHRASE", None);
    home
}

/// The same after `init`.
#[track_caller]
pub fn made(bao: &Bao, origin: &Origin, more: &str) -> Home {
    let home = bare(bao, origin, more);
    let key = home.outside().join("key-file");
    home.ok(&["init", "--key-file", key.to_str().unwrap()]);
    home
}

/// An origin of all hosts that demands the key.
pub fn origin() -> (Origin, String) {
    let key = fresh_key();
    (Origin::demanding(&HOSTS, &key), key)
}

/// A discovered agent of this name; its token.
#[track_caller]
pub fn agent(bao: &Bao, name: &str) -> String {
    let token = fresh_key();
    bao.put(&format!("secret/keyhatch-agents/{name}"), &[("token", &token)]);
    token
}
