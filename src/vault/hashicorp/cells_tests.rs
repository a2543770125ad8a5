use super::super::answers;
use super::super::keeper::supervise;
use super::super::paths::Standing;
use super::*;

fn wanted(version: u64, reference: &str) -> Wanted {
    Wanted {
        id: CredentialId([1; 16]),
        version,
        name: CredentialName::parse("real").expect("a name"),
        reference: VaultReference::parse(reference).expect("a reference"),
        presentation: Presentation::Bearer,
    }
}

fn joined(path: &Arc<Path>) -> Arc<Cell> {
    let cell = Cell::new(wanted(1, "secret/a#k"), Arc::clone(path));
    path.join(&cell, None);
    cell
}

fn fields(value: &str) -> Fields {
    answers::plain(format!(r#"{{"data":{{"k":"{value}"}}}}"#).as_bytes(), "secret/a").expect("an answer").fields
}

fn value(got: Result<Arc<Material>, Unavailable>) -> Result<String, &'static str> {
    got.map(|material| material.value().to_str().expect("text").to_owned()).map_err(|why| why.reason)
}

/// What a request gets, and how long it waits for it.
async fn ask(cell: &Arc<Cell>) -> (Result<String, &'static str>, Duration) {
    let begin = Instant::now();
    let got = match cell.material() {
        Fetched::Now(got) => got,
        Fetched::Later(later) => later.await,
    };
    (value(got), begin.elapsed())
}

const A: &str = "sk-or-v1-test-value-a";
const B: &str = "sk-or-v1-test-value-b";

fn carried(value: &str) -> Result<String, &'static str> {
    Ok(format!("Bearer {value}"))
}

fn gone() -> Unavailable {
    Unavailable::new("vault_missing", "deleted")
}

#[tokio::test(start_paused = true)]
async fn a_first_value_is_waited_for_together_not_each_for_itself() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    let (one, two) = tokio::join!(ask(&cell), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        ask(&cell).await
    });
    assert_eq!(one, (Err("vault_unreachable"), FIRST));
    assert_eq!(two, (Err("vault_unreachable"), Duration::from_secs(1)));
    assert_eq!(ask(&cell).await, (Err("vault_unreachable"), Duration::ZERO), "who comes later waits no more");
    cell.take(&fields(A));
    assert_eq!(ask(&cell).await, (carried(A), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_the_answer() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    let (got, ()) = tokio::join!(ask(&cell), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cell.take(&fields(A));
        path.answered();
    });
    assert_eq!(got, (carried(A), Duration::from_millis(100)));
    // And where Vault cannot be asked, by that.
    let other = joined(&path);
    let (got, ()) = tokio::join!(ask(&other), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        path.each(|cell| cell.wait_no_more(&gone()));
        path.answered();
    });
    assert_eq!(got, (Err("vault_missing"), Duration::from_millis(100)));
    assert_eq!(ask(&cell).await.0, carried(A), "who has a value keeps it");
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_holds_requests_up_for_a_moment_in_all() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    cell.take(&fields(A));
    path.poke();
    let (one, two) = tokio::join!(ask(&cell), async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        ask(&cell).await
    });
    assert_eq!(one, (carried(A), DOUBT));
    assert_eq!(two, (carried(A), Duration::from_millis(100)));
    // Vault still hangs: nobody waits on it any more.
    assert_eq!(ask(&cell).await, (carried(A), Duration::ZERO));
    let before = path.wanted();
    path.poke();
    assert_eq!((path.wanted(), ask(&cell).await.1), (before, Duration::ZERO), "one question in ten seconds");
    tokio::time::sleep(Duration::from_secs(10)).await;
    path.each(Cell::trust);
    path.poke();
    assert_eq!(path.wanted(), before + 1);
    let (got, ()) = tokio::join!(ask(&cell), async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        cell.take(&fields(B));
        path.answered();
    });
    assert_eq!(got, (carried(B), Duration::from_millis(5)));
}

#[tokio::test(start_paused = true)]
async fn a_doubt_brings_nothing_old_back() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    for (meanwhile, left) in [(None, Err("vault_missing")), (Some(B), carried(B))] {
        cell.take(&fields(A));
        // What a doubt or its end does, with an answer of Vault between its look and its change.
        let changed = cell.turn(|state| {
            let State::Ready(material) = state else { panic!("ready") };
            match meanwhile {
                Some(value) => cell.take(&fields(value)),
                None => cell.end(&gone()),
            }
            Some(State::Doubted(Arc::clone(material), Instant::now()))
        });
        assert!(!changed);
        assert_eq!(ask(&cell).await.0, left);
    }
}

#[tokio::test(start_paused = true)]
async fn other_terms_keep_the_value() {
    let path = Path::new("secret/a", None);
    let old = joined(&path);
    old.take(&fields(A));
    let before = path.wanted();
    let new = Cell::new(wanted(2, "secret/a#k"), Arc::clone(&path));
    path.join(&new, Some(&old));
    assert_eq!((ask(&new).await, path.wanted()), ((carried(A), Duration::ZERO), before), "Vault is not asked for it");
    // Another field, or nothing to take over: it is read.
    let other = Cell::new(wanted(3, "secret/a#other"), Arc::clone(&path));
    path.join(&other, Some(&old));
    assert!(other.lacks_value() && path.wanted() == before + 1);
    old.end(&gone());
    let late = Cell::new(wanted(4, "secret/a#k"), Arc::clone(&path));
    path.join(&late, Some(&old));
    assert!(late.lacks_value() && path.wanted() == before + 2);
    // What was read meanwhile is newer.
    old.take(&fields(A));
    let newer = Cell::new(wanted(5, "secret/a#k"), Arc::clone(&path));
    newer.take(&fields(B));
    assert!(newer.succeed(&old));
    assert_eq!(ask(&newer).await.0, carried(B));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_ends_the_value_and_is_begun_anew() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    cell.take(&fields(A));
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (own, task_cell) = (Arc::clone(&runs), Arc::clone(&cell));
    let supervised = supervise(Arc::clone(&path), move || {
        let (run, cell) = (own.fetch_add(1, std::sync::atomic::Ordering::SeqCst), Arc::clone(&task_cell));
        async move {
            assert!(run > 0, "a panic that the test wants");
            cell.take(&fields(B));
        }
    });
    let ((), during) = tokio::join!(supervised, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (ask(&cell).await.0, path.standing())
    });
    assert_eq!(during.0, Err("vault_failed"));
    assert!(matches!(during.1, Standing::Gone(_)));
    assert_eq!(ask(&cell).await.0, carried(B));
    assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn no_call_to_the_task_is_lost() {
    let path = Path::new("secret/a", None);
    let cell = joined(&path);
    let handled = path.wanted();
    // Wanted while the task was busy with what came before: it does not sleep over it.
    path.want();
    tokio::time::timeout(Duration::ZERO, path.woken(handled)).await.expect("at once");
    // A call that was answered already wakes nobody.
    cell.take(&fields(A));
    path.poke();
    let handled = path.wanted();
    assert!(tokio::time::timeout(Duration::from_secs(60), path.woken(handled)).await.is_err());
    path.leave();
    tokio::time::timeout(Duration::ZERO, path.woken(handled)).await.expect("at its end");
}
