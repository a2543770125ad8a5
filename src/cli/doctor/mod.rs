//! `keyhatch doctor`

mod network;
mod places;
mod store;
mod vault;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::error::{CommandError, DONE, Outcome};
use crate::telemetry::escape;

/// Say what is wrong with this set-up, and the mend for each
///
/// It looks at the home and its permissions, the configuration, the store, the CA, a running
/// `serve` and its ports, the clock, what the configuration points elsewhere, and at Vault where it
/// is used: the way there, the token, and each value. Where no passphrase is at hand it leaves out
/// what needs one. It exits 1 if something is wrong; a
/// remark alone is not. With --json, an array of objects: check, level (ok, note, warning,
/// wrong), message, mend.
///
/// Examples:
///
///   keyhatch doctor
///   keyhatch doctor --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// To be known.
    Note,
    /// Perhaps not as it was meant.
    Warning,
    /// It does not work, or is not safe.
    Wrong,
}

/// What one look found.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    mend: Option<String>,
}

/// All that was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, level: Level, message: impl Into<String>, mend: Option<&str>) {
        self.0.push(Finding { check, level, message: message.into(), mend: mend.map(str::to_owned) });
    }

    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Level::Ok, message, None);
    }

    fn note(&mut self, check: &'static str, message: impl Into<String>, mend: &str) {
        self.add(check, Level::Note, message, Some(mend).filter(|m| !m.is_empty()));
    }

    fn warning(&mut self, check: &'static str, message: impl Into<String>, mend: &str) {
        self.add(check, Level::Warning, message, Some(mend));
    }

    fn wrong(&mut self, check: &'static str, message: impl Into<String>, mend: &str) {
        self.add(check, Level::Wrong, message, Some(mend));
    }

    /// An error that says its own mend.
    fn error(&mut self, check: &'static str, e: &CommandError) {
        self.add(check, Level::Wrong, e.message.clone(), e.hint.as_deref());
    }
}

pub(super) fn run(ctx: &Context, _: &DoctorArgs) -> Outcome {
    let mut found = Findings::default();
    look(ctx, &mut found);
    report(ctx, &found.0)?;
    let wrong = found.0.iter().filter(|f| f.level == Level::Wrong).count();
    if wrong == 0 {
        return DONE;
    }
    if !ctx.out.json {
        ctx.out.say(&format!("keyhatch: {wrong} of {} checks found something wrong; each says its mend", found.0.len()));
    }
    Ok(ExitCode::FAILURE)
}

/// Looks at everything that can be looked at; what cannot be is left out where the reason was said already.
fn look(ctx: &Context, found: &mut Findings) {
    let without_store = ctx.without_store();
    let home = match (ctx.home(), &without_store) {
        (Ok(home), _) => {
            places::look(ctx, &home, found);
            home
        }
        (Err(e), Ok(Some((home, _)))) => {
            found.add("home", Level::Note, e.message, e.hint.as_deref());
            home.clone()
        }
        (Err(e), _) => return found.error("home", &e),
    };
    let config = match ctx.config(&home) {
        Ok(config) => config,
        Err(e) => return found.error("configuration", &e),
    };
    let (file, _) = ctx.config_file(&home);
    let read = if file.exists() { format!("{} can be read", file.display()) } else { "there is no file: the defaults count".to_owned() };
    found.ok("configuration", read);
    let state = match &without_store {
        Ok(None) => store::look(ctx, &home, &config, found),
        Ok(Some(_)) => {
            store::look_without(&home, &config, found);
            None
        }
        Err(e) => {
            found.error("store", e);
            None
        }
    };
    let rest = vault::Rest { home: &home, config: &config, file: &file, without_store: matches!(without_store, Ok(Some(_))) };
    let picture = vault::look(&rest, state, found);
    network::look(ctx, &home, &config, picture.as_ref().map(|p| &p.roster), found);
    found.note(
        "boundary",
        "a command under `run` has your own user id: it could read the key file or ask admin.sock as you can",
        "for agents that you do not trust use another user or a container, with the output of `keyhatch env`",
    );
}

fn report(ctx: &Context, found: &[Finding]) -> Result<(), CommandError> {
    if ctx.out.json {
        return ctx.out.json(&found);
    }
    let mut text = String::new();
    for f in found {
        let level = match f.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Wrong => "WRONG",
        };
        text.push_str(&format!("{level:8} {:14} {}\n", f.check, escape::human(&f.message)));
        if let Some(mend) = &f.mend {
            text.push_str(&format!("{:23} mend: {}\n", "", escape::human(mend)));
        }
    }
    ctx.out.data(text.as_bytes())
}
