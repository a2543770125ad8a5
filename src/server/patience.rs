//! How a start waits for a Vault in outage: a machine that boots starts `serve` and Vault together.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// How long a `serve` waits.
const WAIT: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Until when a Vault in outage is waited for.
pub(super) struct Patience(pub(super) Instant);

impl Patience {
    /// A `serve` waits for half a minute; a person who waits for a command is told at once.
    pub(super) fn new(waits: bool) -> Self {
        Self(Instant::now() + if waits { WAIT } else { Duration::ZERO })
    }

    /// Asks again and again while Vault is in outage and there is time. Each new reason is logged once, by `say`, which is given the
    /// seconds that are left, rounded up.
    ///
    /// # Errors
    /// The last answer's.
    pub(super) async fn wait<T, E: Display>(
        &self,
        is_outage: impl Fn(&E) -> bool,
        say: impl Fn(f32, &str),
        ask: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut said = None;
        loop {
            match ask().await {
                Err(e) if is_outage(&e) && Instant::now() + PAUSE < self.0 => {
                    let line = e.to_string();
                    if said.as_ref() != Some(&line) {
                        say(self.0.duration_since(Instant::now()).as_secs_f32().ceil(), &line);
                        said = Some(line);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }
}
