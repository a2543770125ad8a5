//! `keyhatch demo`: the whole main job on this machine alone, with real processes, checked line by line.
//!
//! In a throw-away home: origins over TLS named `openrouter.ai`, another host and a look-alike (by `[resolve]`), a `serve`
//! of this same binary, and a child under `keyhatch run` with no key in its environment ([`child`]).

mod certificate;
pub mod child;
pub mod origin;
mod report;
mod scene;
pub mod steps;

use std::io::Write;

pub use certificate::OriginAuthority;

use self::child::{Line, Outcome};
use self::origin::Received;
use self::report::Report;
use self::scene::Scene;
use self::steps::{Arrives, HOME_HOST, STEPS, Step};

/// Why the demo could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The machine refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A step of the demo's own ended badly.
    #[error("{doing} failed: {why}")]
    Step {
        /// What was being done.
        doing: &'static str,
        /// What was said, without the key.
        why: String,
    },
}

/// Runs the demo and prints it. `true` where every line is as it must be.
///
/// # Errors
/// [`DemoError`] where it could not be carried out; what it started is stopped and removed in any case.
pub async fn run(out: &mut dyn Write) -> Result<bool, DemoError> {
    let writing = |source| DemoError::Io { doing: "writing the report", source };
    let mut scene = Scene::set().await?;
    let key = scene.key();
    let mut report = Report::new(out, &key);
    report.say("Keyhatch's main job, on this machine alone, in a throw-away home.").map_err(writing)?;
    report.say("Left: what the child sent. Right: what the origin received.").map_err(writing)?;

    straight_to_the_origin(&mut scene, &mut report).await?;
    let before = scene.received(HOME_HOST).len();
    let output = scene.run_child().await?;
    let lines = output.lines().filter_map(|l| serde_json::from_str::<Line>(l).ok()).collect::<Vec<_>>();
    let outcomes = lines.iter().filter_map(|l| if let Line::Done(o) = l { Some(o) } else { None }).collect::<Vec<_>>();
    steps(&scene, before, &outcomes, &mut report).map_err(writing)?;
    nothing_leaked(&lines, &output, &key, &mut report).map_err(writing)?;

    scene.stop().await?;
    let verified = scene.audit_verifies().await?;
    report.line("the audit log", if verified { "its chain is whole" } else { "its chain is broken" }, verified).map_err(writing)?;
    let log = scene.talk();
    let clean = !log.contains(&*key);
    report.line("what serve and the commands said", if clean { "the key is nowhere in it" } else { "THE KEY IS IN IT" }, clean).map_err(writing)?;

    let (wrong, all) = report.verdict();
    let closing =
        if wrong == 0 { format!("\nAll {all} lines are as they must be.") } else { format!("\n{wrong} of {all} lines are not as they must be.") };
    report.say(&closing).map_err(writing)?;
    Ok(wrong == 0)
}

/// The origin does demand the key: without Keyhatch it answers 401.
async fn straight_to_the_origin(scene: &mut Scene, report: &mut Report<'_>) -> Result<(), DemoError> {
    let status = scene.ask_straight().await?;
    let right = format!("the answer: {status}");
    report
        .heading("0. without Keyhatch, without a key: https://openrouter.ai/api/v1/auth/key")
        .and_then(|()| report.line("GET /api/v1/auth/key", &right, status == 401))
        .map_err(|source| DemoError::Io { doing: "writing the report", source })
}

/// Every step's lines. The child is one process that does one thing at a time, so the n-th request that may
/// arrive at a host is the n-th one received there; one more than that is a failure too.
fn steps(scene: &Scene, before: usize, outcomes: &[&Outcome], report: &mut Report<'_>) -> std::io::Result<()> {
    let mut taken = std::collections::HashMap::from([(HOME_HOST, before)]);
    for (number, step) in STEPS.iter().enumerate() {
        report.heading(&format!("{}. {}: https://{}{}", number + 1, step.title, step.host, step.target))?;
        let Some(outcome) = outcomes.get(number) else {
            report.line("(the child did not come so far)", "", false)?;
            continue;
        };
        let all = scene.received(step.host);
        let next = taken.entry(step.host).or_insert(0);
        let received = if step.arrives == Arrives::Nothing { None } else { all.get(*next) };
        *next += usize::from(received.is_some());
        match (received, step.arrives) {
            (None, Arrives::Nothing) => report.line(&format!("{} {}", step.method, step.target), "(nothing)", true)?,
            (None, _) => report.line(&format!("{} {}", step.method, step.target), "(nothing)", false)?,
            (Some(received), _) => compare(step, outcome, received, scene, report)?,
        }
        answer(step, outcome, report)?;
    }
    for host in scene.hosts() {
        let extra = scene.received(host).len() - taken.get(host).copied().unwrap_or(0).min(scene.received(host).len());
        if extra > 0 {
            report.line(&format!("{host}: nothing more"), &format!("{extra} more requests"), false)?;
        }
    }
    Ok(())
}

/// What was sent, beside what arrived.
fn compare(step: &Step, outcome: &Outcome, received: &Received, scene: &Scene, report: &mut Report<'_>) -> std::io::Result<()> {
    let sent_line = format!("{} {}", step.method, step.target);
    let received_line = format!("{} {}", received.method, received.target);
    report.line(&sent_line, &received_line, sent_line == received_line)?;

    let show = |name: &str, values: &[&str]| match values {
        [] => format!("{name}: (absent)"),
        _ => format!("{name}: {}", values.join(" + ")),
    };
    let own = outcome.sent.iter().filter(|(n, _)| n == "authorization").map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    let got = received.values("authorization").collect::<Vec<_>>();
    let real = format!("Bearer {}", &*scene.key());
    let right = if step.arrives == Arrives::WithKey { got == [real.as_str()] } else { got == own };
    report.line(&show("authorization", &own), &show("authorization", &got), right)?;

    for (name, value) in outcome.sent.iter().filter(|(n, _)| n != "authorization") {
        let got = received.values(name).collect::<Vec<_>>();
        report.line(&format!("{name}: {value}"), &show(name, &got), got == [value.as_str()])?;
    }
    // `connection` is the client's word to its next hop: the origin may see the proxy's own or none.
    let hop = ["authorization", "connection"];
    for (name, value) in received.fields.iter().filter(|(n, _)| !hop.contains(&n.as_str()) && !outcome.sent.iter().any(|(s, _)| s == n)) {
        report.line("(not sent)", &format!("{name}: {value}"), false)?;
    }
    if !step.body.is_empty() || received.body_len > 0 {
        let digest = scene::sha256(step.body.as_bytes());
        let text = |len: u64, digest: &str| format!("body: {len} bytes, SHA-256 {}…", digest.get(..12).unwrap_or(digest));
        let same = received.body_sha256 == digest && received.body_len == step.body.len() as u64;
        report.line(&text(step.body.len() as u64, &digest), &text(received.body_len, &received.body_sha256), same)?;
    }
    Ok(())
}

/// What came back to the child.
fn answer(step: &Step, outcome: &Outcome, report: &mut Report<'_>) -> std::io::Result<()> {
    let shown = if outcome.status == 0 { outcome.answer.clone() } else { outcome.status.to_string() };
    let back = format!("the child saw: {shown}");
    let meant = if step.arrives == Arrives::Nothing { "the proxy's own answer" } else { "the origin's answer" };
    report.line(&back, &format!("{meant}: {}", step.status), outcome.status == step.status)?;
    for part in step.answer_holds {
        let holds = outcome.answer.contains(part);
        report.line(&format!("  {}{part}", if holds { "with " } else { "WITHOUT " }), "", holds)?;
    }
    Ok(())
}

/// The key is neither in the child's environment nor in anything that it saw.
fn nothing_leaked(lines: &[Line], output: &str, key: &str, report: &mut Report<'_>) -> std::io::Result<()> {
    report.heading("And the key:")?;
    let environment = lines.iter().find_map(|l| if let Line::Environment(e) = l { Some(e) } else { None });
    let held = environment.is_none_or(|all| all.iter().any(|(n, v)| v.contains(key) || n == "KEYHATCH_PASSPHRASE"));
    report.line("the child's environment", if held { "HOLDS A SECRET" } else { "holds no key and no passphrase" }, !held)?;
    let seen = output.contains(key);
    report.line("all that the child saw and sent", if seen { "THE KEY IS IN IT" } else { "the key is nowhere in it" }, !seen)
}
