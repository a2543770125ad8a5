use super::*;

fn collect(tail: &mut Tail) -> Vec<String> {
    let mut out = Vec::new();
    tail.poll(&mut |r| {
        out.push(r.json().into_owned());
        Ok(())
    })
    .expect("read");
    out
}

#[test]
fn following_survives_rotations() {
    let log = Log::new(AuditOptions { max_size: 1, keep: 10 });
    let mut tail = Tail::new(&log.path, Filter { host: Some(HostFilter::parse("openrouter.ai").expect("a host")), ..Filter::default() });
    assert!(collect(&mut tail).is_empty(), "no log yet");
    log.append("/0");
    assert_eq!(collect(&mut tail).len(), 1);
    assert!(collect(&mut tail).is_empty());
    // Three rotations between two looks.
    (1..4).for_each(|i| log.append(&format!("/{i}")));
    let seen = collect(&mut tail);
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().zip(1..).all(|(l, i)| l.contains(&format!("\"path\":\"/{i}\""))), "{seen:?}");
    assert!(collect(&mut tail).is_empty());
}

#[test]
fn a_line_is_shown_when_it_is_whole() {
    let log = Log::with_records(2);
    let whole = fs::read(&log.path).expect("read");
    let mut tail = Tail::new(&log.path, Filter::default());
    fs::write(&log.path, &whole[..whole.len() - 5]).expect("written");
    assert_eq!(collect(&mut tail).len(), 1);
    let mut file = fs::OpenOptions::new().append(true).open(&log.path).expect("opened");
    io::Write::write_all(&mut file, &whole[whole.len() - 5..]).expect("written");
    assert_eq!(collect(&mut tail).len(), 1);
    assert_eq!(tail.skipped(), 0);
}

#[test]
fn filters() {
    let log = Log::new(AuditOptions::default());
    let open = log.open();
    let denied = RequestRecord {
        status: 403,
        agent: Some("ci".into()),
        host: "example.com".into(),
        verdict: crate::audit::Verdict::Denied,
        ..request_record("/b")
    };
    open.record(request("/a"));
    open.record(AuditEvent::Request(Box::new(denied)));
    open.record(change("serve.start"));
    open.close();
    let count = |filter| collect(&mut Tail::new(&log.path, filter)).len();
    assert_eq!(count(Filter::default()), 4);
    assert_eq!(count(Filter { agent: Some("ci".into()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { status: Some(StatusFilter::parse("4xx").expect("a class")), ..Filter::default() }), 1);
    assert_eq!(count(Filter { status: Some(StatusFilter::parse("injected").expect("a decision")), ..Filter::default() }), 1);
    assert_eq!(count(Filter { host: Some(HostFilter::parse("*.com").expect("a host")), ..Filter::default() }), 1);
    let later = crate::clock::now().checked_add(jiff::SignedDuration::from_secs(60)).expect("in range");
    assert_eq!(count(Filter { since: Some(later), ..Filter::default() }), 0);
}

#[test]
fn only_the_last_and_an_end_by_the_reader() {
    let log = Log::with_records(6);
    let mut shown = 0;
    let mut tail = Tail::new(&log.path, Filter::default());
    tail.run(false, Some(2), &mut |r| {
        shown += 1;
        assert!(r.json().contains(&format!("\"path\":\"/{}\"", shown + 4)));
        Ok(())
    })
    .expect("read");
    assert_eq!(shown, 2);
    Tail::new(&log.path, Filter::default()).run(false, Some(0), &mut |_| panic!("none asked for")).expect("read");
    let broken = Tail::new(&log.path, Filter::default()).run(true, None, &mut |_| Err(io::ErrorKind::BrokenPipe.into()));
    assert_eq!(broken.expect_err("ended").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn broken_lines_are_skipped_and_counted() {
    let log = Log::with_records(3);
    let mut lines = log.lines();
    lines.insert(1, "rubbish \u{1b}[2J".into());
    lines.insert(2, "x".repeat(200_000));
    log.write_lines(&lines);
    let mut tail = Tail::new(&log.path, Filter::default());
    assert_eq!(collect(&mut tail).len(), 3);
    assert_eq!(tail.skipped(), 2);
}
