//! `keyhatch init`

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::DEFAULT_AGENT;
use super::agent::new_token;
use super::context::Unlocked;
use crate::agent::AgentName;
use crate::cli::context::{Change, Context, new_transit_key};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::clock;
use crate::config::{Config, UnlockMethod};
use crate::envelope::UnlockKey;
use crate::home::{Home, Mode, make_key_file, write_atomic};
use crate::server::CA_ITEM;
use crate::store::with_suffix;
use crate::tls::CaState;
use crate::vault::local::LocalStore;

/// Make the home, the store, the CA and the agent "default"
///
/// A home that has a configuration but no store is taken as it is; one that has a store is
/// refused. The store is sealed under a passphrase (--passphrase-file, KEYHATCH_PASSPHRASE_FILE,
/// $CREDENTIALS_DIRECTORY/keyhatch-passphrase, KEYHATCH_PASSPHRASE, else a prompt) or, with
/// --key-file, under a file of random bytes whose default place is outside the home. Where the
/// configuration says [store] unlock = "vault-transit", HashiCorp Vault wraps the store's key with
/// the one that `transit_key` names, and is asked at each start instead of a person.
///
/// The token of agent "default" is not shown: `run` and `env` need none, and
/// `keyhatch agent rotate default` makes one that is.
///
/// Examples:
///
///   keyhatch init
///   keyhatch init --passphrase-file /run/secrets/keyhatch
///   keyhatch init --key-file
///   keyhatch init --key-file /etc/keyhatch/key
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct InitArgs {
    /// Seal the store under a new key file, in this place or the default one
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    key_file: Option<Option<PathBuf>>,
}

pub(super) fn run(ctx: &Context, args: &InitArgs) -> Outcome {
    let home = ctx.home_place()?;
    if home.dir().exists() {
        home.check()?;
    }
    if home.store().symlink_metadata().is_ok() {
        return Err(CommandError::failed(format!("{} has a store already, and it is left as it is", home.dir().display()))
            .hint("go on with it, or give another home with --home"));
    }
    let config = ctx.config(&home)?;
    // Where Vault refuses, not even an empty home is left behind.
    let by_vault = args.vault_key(&config)?;
    home.create()?;
    let key = by_vault.map_or_else(|| args.key(ctx, &home, &config), Ok)?;
    let unlocked = make(home, config, &key).inspect_err(|_| {
        // A key file that nothing is sealed with would only be in the way of the next try.
        if let UnlockKey::KeyFile { path, .. } = &key {
            let _ = std::fs::remove_file(path);
        }
    })?;
    unlocked.changed(Change { event: "init", agent: None, credential: None, detail: String::new() })?;
    report(ctx, &unlocked)
}

impl InitArgs {
    /// A key that Vault wrapped, where the configuration says so.
    fn vault_key(&self, config: &Config) -> Result<Option<UnlockKey>, CommandError> {
        match (config.store.unlock, &config.store.transit_key) {
            (Some(UnlockMethod::VaultTransit), _) if self.key_file.is_some() => Err(self.contradicts(UnlockMethod::VaultTransit)),
            (Some(UnlockMethod::VaultTransit), Some(key)) => new_transit_key(config, key).map(Some),
            _ => Ok(None),
        }
    }

    fn contradicts(&self, said: UnlockMethod) -> CommandError {
        CommandError::usage(format!("--key-file contradicts [store] unlock = \"{}\" in the configuration", said.word())).hint("change one of the two")
    }

    /// A new passphrase or a new key file, as the option or the configuration says.
    fn key(&self, ctx: &Context, home: &Home, config: &Config) -> Result<UnlockKey, CommandError> {
        if self.key_file.is_none() && config.store.unlock != Some(UnlockMethod::KeyFile) {
            return Ok(ctx.sources(config).new_passphrase(&home.store())?);
        }
        if config.store.unlock == Some(UnlockMethod::Passphrase) {
            return Err(self.contradicts(UnlockMethod::Passphrase));
        }
        let named = self.key_file.clone().flatten().or_else(|| config.store.key_file.clone());
        Ok(make_key_file(&named.map_or_else(|| home.key_file(), Ok)?)?)
    }
}

/// Makes the store with the CA and the first agent; all of it, or nothing that would be in the way of another try.
fn make(home: Home, config: Config, key: &UnlockKey) -> Result<Unlocked, CommandError> {
    let path = home.store();
    let store = LocalStore::create(&path, key)?;
    let fill = || -> Result<(), CommandError> {
        let now = clock::now();
        let ca = CaState::generate(now).map_err(CommandError::doing("the CA cannot be made"))?;
        store.put_item(CA_ITEM, &ca.to_secret())?;
        store.add_agent(&AgentName::parse(DEFAULT_AGENT)?, &new_token().digest(), &[])?;
        write_atomic(&home.ca(), ca.anchors_pem(now).as_bytes(), Mode::Public)?;
        Ok(())
    };
    fill().inspect_err(|_| remove_store(&path))?;
    Ok(Unlocked { home, config, store: Arc::new(store) })
}

fn remove_store(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(with_suffix(path, suffix));
    }
}

fn report(ctx: &Context, unlocked: &Unlocked) -> Outcome {
    let (home, sealed) = (&unlocked.home, unlocked.store.unlocked_by());
    if ctx.out.json {
        ctx.out.json(&serde_json::json!({
            "home": home.dir().display().to_string(), "store": home.store().display().to_string(),
            "ca": home.ca().display().to_string(), "sealed_with": sealed.to_string(), "agent": DEFAULT_AGENT,
        }))?;
        return DONE;
    }
    ctx.out.data(
        format!(
            "Made {}: a store sealed with {sealed}, a CA, and agent \"{DEFAULT_AGENT}\".\n\n\
             Next:\n  \
             keyhatch credential add openrouter < key.txt   put a key in, once\n  \
             keyhatch run -- CMD                            run a program that is to use it and not to have it\n  \
             keyhatch serve                                 or keep the proxy running, and in another shell:\n  \
             eval \"$(keyhatch env)\"                         point that shell's programs at it\n  \
             keyhatch doctor                                whether all is well\n",
            home.dir().display()
        )
        .as_bytes(),
    )?;
    DONE
}
