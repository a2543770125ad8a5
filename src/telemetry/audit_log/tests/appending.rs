use super::*;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_log_goes_on_where_it_ended() {
    let log = Log::new(AuditOptions::default());
    let first = log.open();
    first.record(request("/a"));
    first.record(change("serve.start"));
    first.close();
    log.append("/b");
    let second = log.open();
    second.record(request("/c"));
    second.flush();
    assert!(second.healthy() && second.problem().is_none());
    assert_eq!(log.paths(), ["/a", "/b", "/c"]);
    log.assert_sound(5);
    second.close();
    assert_eq!(log.kept.load().expect("loaded").expect("saved").seq, 5);
    assert_eq!(fs::metadata(&log.path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_comes_after_the_end_is_counted() {
    let log = Log::new(AuditOptions::default());
    let open = log.open();
    open.close();
    open.record(request("/late"));
    open.flush();
    assert_eq!((open.lost(), open.healthy()), (1, false));
    log.assert_sound(1);
}

#[test]
fn several_writers_interleave_and_rotate() {
    const EACH: usize = 150;
    let log = Log::new(AuditOptions { max_size: 8 * 1024, keep: 1000 });
    std::thread::scope(|scope| {
        for w in 0..2 {
            let log = &log;
            scope.spawn(move || {
                let open = log.open();
                for i in 0..EACH {
                    open.record(request(&format!("/{w}/{i}")));
                    if i % 7 == 0 {
                        open.flush();
                    }
                }
                open.close();
                assert_eq!(open.lost(), 0);
            });
            scope.spawn(move || (0..EACH / 5).for_each(|i| log.append(&format!("/now{w}/{i}"))));
        }
    });
    let paths = log.paths();
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), 2 * EACH + 2 * (EACH / 5), "each once");
    assert_eq!(paths.len(), 2 * EACH + 2 * (EACH / 5));
    let files = files::existing(&log.path).expect("read");
    assert!(files.len() > 5, "{files:?}");
    for n in &files {
        assert!(fs::metadata(files::rotated(&log.path, *n)).expect("there").len() <= 8 * 1024);
    }
    let report = log.verify();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.records, report.last_seq);
    assert_eq!(report.records as usize, paths.len() + files.len(), "an opening record to a file");
}

#[test]
fn old_files_go_and_that_is_no_fault() {
    for keep in [0, 1, 2] {
        let log = Log::new(AuditOptions { max_size: 1, keep });
        (0..6).for_each(|i| log.append(&format!("/{i}")));
        assert_eq!(files::existing(&log.path).expect("read").len(), keep as usize + 1);
        assert_eq!(log.paths().last().map(String::as_str), Some("/5"), "a record always fits");
        let report = log.verify();
        assert!(report.is_sound(), "{:?}", report.faults);
        assert!(matches!(report.notes[0].kind, NoteKind::OlderRemoved { .. }), "{:?}", report.notes);
    }
}

#[test]
fn a_full_disk_is_survived_and_told() {
    let log = Log::new(AuditOptions::default());
    let (open, full) = log.open_failing(4);
    open.record(request("/before"));
    open.flush();
    full.store(true, Ordering::SeqCst);
    open.record(request("/first"));
    open.flush();
    assert!(!open.healthy());
    assert!(open.problem().expect("a problem").contains("cannot be written"));
    (0..100).for_each(|i| open.record(request(&format!("/{i}"))));
    let lost = open.lost();
    assert!(lost > 0 && lost <= 96, "{lost}");
    full.store(false, Ordering::SeqCst);
    while !open.healthy() {
        open.flush();
    }
    open.close();
    let report = log.verify();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.lost, lost);
    assert_eq!(open.lost(), lost, "the count of the whole run stays");
    assert_eq!(log.paths().len() as u64 + lost, 102);
    assert_eq!(log.paths()[..2], ["/before", "/first"]);
    assert!(log.lines().iter().any(|l| l.contains("\"event\":\"audit.lost\"") && l.contains(&format!("\"count\":{lost}"))));
}

#[test]
fn a_disk_that_stays_full_does_not_keep_the_end() {
    let log = Log::new(AuditOptions::default());
    let (open, full) = log.open_failing(8);
    full.store(true, Ordering::SeqCst);
    (0..3).for_each(|_| open.record(request("/x")));
    open.close();
    assert_eq!(open.lost(), 3);
    log.assert_sound(1);
}

#[test]
fn a_device_that_is_full_is_refused_as_a_log() {
    let log = Log::new(AuditOptions::default());
    std::os::unix::fs::symlink("/dev/full", &log.path).expect("linked");
    assert!(matches!(AuditLog::open(&log.path, key(), log.options, log.kept.clone()), Err(AuditError::File { .. })));
}

#[test]
fn no_directory_no_log() {
    let log = Log::new(AuditOptions::default());
    let path = log.path.with_file_name("gone").join("audit.jsonl");
    let error = AuditLog::open(&path, key(), log.options, log.kept.clone()).err().expect("refused");
    assert!(error.to_string().contains("gone/audit.jsonl"), "{error}");
    assert!(append_now(&path, key(), log.options, &*log.kept, request("/")).is_err());
}

#[test]
fn a_rotation_that_was_broken_off_is_finished() {
    let log = Log::with_records(4);
    fs::rename(&log.path, files::rotated(&log.path, 1)).expect("moved");
    log.append("/after");
    assert!(log.lines()[0].contains("audit.continue"));
    log.assert_sound(6);
    // Likewise where the new file was made and nothing written to it.
    let log = Log::with_records(4);
    fs::rename(&log.path, files::rotated(&log.path, 1)).expect("moved");
    fs::write(&log.path, "").expect("written");
    log.append("/after");
    log.assert_sound(6);
}

#[test]
fn a_torn_opening_record_is_left_behind() {
    let log = Log::with_records(4);
    fs::rename(&log.path, files::rotated(&log.path, 1)).expect("moved");
    fs::write(&log.path, "{\"seq\":5,\"ts\":\"20").expect("written");
    log.append("/after");
    log.assert_sound(6);
    assert_eq!(log.verify().notes.len(), 1);
}

#[test]
fn the_log_of_another_store_is_moved_away() {
    let log = Log::with_records(3);
    let other = AuditKey::new(Zeroizing::new([6; 32]));
    let kept = Kept::default();
    append_now(&log.path, other, log.options, &kept, request("/new")).expect("written");
    assert!(log.lines()[0].contains("audit.start"));
    let report = verify(&log.path, &AuditKey::new(Zeroizing::new([6; 32])), kept.load().expect("loaded")).expect("read");
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!((report.records, report.notes.len()), (2, 1));
    assert_eq!(report.notes[0].kind, NoteKind::OtherStore);
}

#[test]
fn long_strings_are_cut_before_they_are_queued() {
    let mut event = AuditEvent::Request(Box::new(RequestRecord { host: "h".repeat(100_000).into(), ..request_record(&"ü".repeat(60_000)) }));
    record::trim(&mut event);
    let AuditEvent::Request(r) = event else { unreachable!() };
    assert_eq!((r.path.len(), r.host.len()), (1024, 1024));
    assert_eq!(r.path, "ü".repeat(512));
}
