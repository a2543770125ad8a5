//! `keyhatch audit tail`

use std::io;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::{CommandError, DONE, Outcome};
use crate::clock;
use crate::telemetry::audit_log::{Filter, FilterError, HostFilter, Shown, StatusFilter, Tail, parse_since};

/// How many records are shown where nothing is asked for.
const LAST: usize = 10;

/// Show the last records of the audit log
///
/// Without a filter the last ten; with one, all that match. It needs no passphrase: the records
/// hold no secret, and whether they are genuine is for `keyhatch audit verify` to say. With
/// --json each line is a record as it stands in the file.
///
/// Examples:
///
///   keyhatch audit tail -f
///   keyhatch audit tail --agent builder --host openrouter.ai --since 1h
///   keyhatch audit tail --status 4xx --since 2026-11-21T08:00:00Z --json
///   keyhatch audit tail --status denied
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TailArgs {
    /// Go on with new records as they come
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only this agent's
    #[arg(long, value_name = "A")]
    agent: Option<String>,
    /// Only this host's, or with `*.` a domain's
    #[arg(long, value_name = "H")]
    host: Option<String>,
    /// Only since a time (RFC 3339), a date, or a span before now: "30m", "2h", "7d"
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Only with this status: "403", "4xx", or a decision such as "denied"
    #[arg(long, value_name = "S")]
    status: Option<String>,
}

pub(super) fn run(ctx: &Context, args: &TailArgs) -> Outcome {
    let filter = args.filter().map_err(|e| CommandError::usage(e.to_string()))?;
    let path = ctx.home()?.audit();
    let last = args.is_plain().then_some(LAST);
    let mut failed = None;
    let mut tail = Tail::new(&path, filter);
    let read = tail.run(args.follow, last, &mut |record| show(ctx, record, &mut failed));
    match (failed, read) {
        (Some(e), _) => return Err(e),
        (None, Err(e)) if e.kind() != io::ErrorKind::BrokenPipe => {
            return Err(CommandError::failed(format!("{} cannot be read: {e}", path.display())).hint("see to its owner and mode"));
        }
        _ => {}
    }
    if tail.skipped() > 0 {
        ctx.out.warn(&format!("{} lines are no records; see `keyhatch audit verify`", tail.skipped()));
    }
    DONE
}

/// Prints a record. A reader that has gone away ends the reading.
fn show(ctx: &Context, record: &Shown<'_>, failed: &mut Option<CommandError>) -> io::Result<()> {
    let line = if ctx.out.json { record.json().into_owned() } else { record.to_string() };
    match ctx.out.streamed_line(&line) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(e),
        Err(e) => {
            *failed = Some(CommandError::failed(format!("standard output cannot be written: {e}")));
            Err(e)
        }
    }
}

impl TailArgs {
    fn is_plain(&self) -> bool {
        self.agent.is_none() && self.host.is_none() && self.since.is_none() && self.status.is_none()
    }

    fn filter(&self) -> Result<Filter, FilterError> {
        Ok(Filter {
            agent: self.agent.clone(),
            host: self.host.as_deref().map(HostFilter::parse).transpose()?,
            since: self.since.as_deref().map(|t| parse_since(t, clock::now())).transpose()?,
            status: self.status.as_deref().map(StatusFilter::parse).transpose()?,
        })
    }
}
