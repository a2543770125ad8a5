use super::super::{Login, VaultSettings};
use super::*;
use crate::credential::Secret;

fn keeper() -> Keeper {
    let login = Login::Token(Secret::from_opened(b"none"));
    let address = "http://127.0.0.1:1".to_owned();
    let settings = VaultSettings::new(address, login);
    let vault = Vault::new(settings).expect("settings");
    let freshness = Freshness { refresh: Duration::from_secs(30), max_stale: Duration::from_secs(600) };
    let (path, queue, leases) = (Path::new("database/creds/role", None), Arc::new(Queue::new()), Leases::new(Arc::clone(&vault)));
    Keeper { vault, path, freshness, queue, leases, ends: watch::Sender::new(0) }
}

/// Four seconds at first, of which so many are left; the token ends after so many.
fn course(left: f64, token: Option<f64>) -> Course {
    let at = |seconds: f64| Instant::now() + Duration::from_secs_f64(seconds);
    let lease = Leased {
        id: "id".into(),
        renewable: true,
        whole: Duration::from_secs(4),
        doubted: None,
        end: at(left),
        session: 7,
        token_end: token.map(at),
    };
    Course { known: Some(Known { version: None, created: None, lease: Some(lease) }), ..Course::default() }
}

#[test]
fn a_leased_value_is_not_used_to_its_very_end() {
    let usable = |millis| usable(Duration::from_millis(millis)).as_millis();
    assert_eq!((usable(3_600_000), usable(10_000), usable(4_000), usable(0)), (3_599_000, 9_000, 3_600, 0));
}

#[tokio::test(start_paused = true)]
async fn the_next_question_comes_in_time_also_after_a_short_renewal() {
    for _ in 0..100 {
        let wait = keeper().until_next(course(2.0, None).known.as_ref());
        assert!(wait > Duration::from_secs(1) && wait < Duration::from_millis(1300), "{wait:?}");
    }
    let wait = keeper().until_next(None);
    assert!(wait >= Duration::from_secs(24) && wait < Duration::from_secs(29), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leased_value_ends_with_whatever_ends_first() {
    let (keeper, start) = (keeper(), Instant::now());
    let end = |mut course: Course| keeper.end(&mut course).map(|end| (end - start).as_secs());
    assert_eq!(end(course(60.0, None)), Some(60));
    assert_eq!(end(course(60.0, Some(20.0))), Some(19), "its token's end");
    assert_eq!(end(Course { since: Some(start), ..course(3600.0, None) }), Some(600), "the grace's end");
    assert_eq!(end(Course { since: Some(start), ..course(60.0, None) }), Some(60), "whatever the grace is");
    assert_eq!(end(Course::default()), None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_provokes_401s_gets_few_leases() {
    let made = |seconds, renewable| {
        let lease = course(60.0, None).known.and_then(|k| k.lease).expect("a lease");
        Leased { whole: Duration::from_secs(seconds), renewable, ..lease }
    };
    let (mut hour, mut month) = (made(3600, true), made(2_592_000, false));
    assert!(hour.is_replaced_on_doubt() && month.is_replaced_on_doubt(), "the first 401 is believed");
    (hour.doubted, month.doubted) = (Some(Instant::now()), Some(Instant::now()));
    assert!(!hour.is_replaced_on_doubt() && !hour.is_good_though_doubted(true), "it is renewed, or replaced where it cannot be");
    assert!(month.is_good_though_doubted(true) && !month.is_good_though_doubted(false));
    tokio::time::advance(Duration::from_secs(361)).await;
    assert!(hour.is_replaced_on_doubt() && !month.is_replaced_on_doubt());
    tokio::time::advance(Duration::from_secs(240)).await;
    assert!(month.is_replaced_on_doubt() && !month.is_good_though_doubted(true));
}

#[tokio::test(start_paused = true)]
async fn a_lost_token_ends_a_lease_and_not_another_value() {
    let keeper = keeper();
    let error = VaultError::new(VaultErrorKind::LoginRefused, "gone");
    let mut leased = Course { since: Some(Instant::now()), ..course(3600.0, None) };
    keeper.failed(&error, &mut leased);
    assert!(leased.known.is_none() && keeper.path.standing() == Standing::Gone("gone".into()));
    let known = Some(Known { version: Some(1), created: None, lease: None });
    let mut plain = Course { known, since: Some(Instant::now()), ..Course::default() };
    keeper.failed(&error, &mut plain);
    assert!(plain.known.is_some() && keeper.path.standing() == Standing::Stale("gone".into()));
}
