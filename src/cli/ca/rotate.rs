//! `keyhatch ca rotate`

use clap::Args;

use crate::cli::base::Matter;
use crate::cli::context::{Change, Context};
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::cli::output::time_or_never;
use crate::clock;
use crate::home::{Mode, write_atomic};
use crate::server::CA_ITEM;
use crate::tls::CaState;

/// Make a new CA
///
/// The old one goes on signing for seven days while clients learn the new one: `run`, `env` and
/// `keyhatch ca export` give both. After a theft use --now: the old one signs nothing more, and
/// clients that do not know the new one refuse every intercepted host until they do.
///
/// Examples:
///
///   keyhatch ca rotate
///   keyhatch ca rotate --now
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RotateArgs {
    /// Sign with the new CA at once
    #[arg(long)]
    now: bool,
}

pub(super) fn run(ctx: &Context, args: &RotateArgs) -> Outcome {
    let unlocked = ctx.unlock_for(Matter::Ca)?;
    let now = clock::now();
    let ca = match unlocked.store.item(CA_ITEM)? {
        Some(secret) => {
            let mut ca = CaState::from_secret(&secret).map_err(CommandError::doing("the CA cannot be read from the store"))?;
            ca.settle(now);
            ca.rotate(now, args.now).map_err(|e| CommandError::failed(e.to_string()))?;
            ca
        }
        // A store without a CA gets its first one.
        None => CaState::generate(now).map_err(CommandError::doing("the CA cannot be made"))?,
    };
    unlocked.store.put_item(CA_ITEM, &ca.to_secret())?;
    write_atomic(&unlocked.home.ca(), ca.anchors_pem(now).as_bytes(), Mode::Public)?;
    let (new, from) = ca.pending(now).map_or_else(|| (ca.signing(now), None), |(ca, from)| (ca, Some(from)));
    let detail = format!("fingerprint {}, {}", new.fingerprint(), if args.now { "at once" } else { "with an overlap" });
    unlocked.changed(Change { event: "ca.rotate", agent: None, credential: None, detail })?;
    if ctx.out.json {
        let from = time_or_never(Some(from.unwrap_or(now)));
        ctx.out.json(&serde_json::json!({ "fingerprint": new.fingerprint(), "signs_from": from, "ends": time_or_never(Some(new.not_after())) }))?;
    } else {
        let when = from.map_or_else(|| "signs from now on".to_owned(), |from| format!("signs from {}", time_or_never(Some(from))));
        ctx.out.say(&format!("The new CA {when}; its SHA-256 fingerprint is {}.", new.fingerprint()));
        ctx.out.say("Clients must come to know it: `run` and `env` see to that; whoever was given the old file needs `keyhatch ca export` anew.");
    }
    DONE
}
