//! Each way of tampering is found, and named with its place.

use super::*;

#[test]
fn an_untouched_log_is_sound() {
    Log::with_records(6).assert_sound(6);
    let empty = Log::new(AuditOptions::default());
    empty.assert_sound(0);
}

#[test]
fn a_changed_record() {
    for (from, to) in [("\"status\":200", "\"status\":201"), ("/4\"", "/5\""), ("openrouter.ai", "openrouter.aj")] {
        let log = Log::with_records(6);
        let mut lines = log.lines();
        lines[3] = lines[3].replace(from, to);
        log.write_lines(&lines);
        assert_eq!(log.faults(), [(4, FaultKind::Changed { seq: 4 })], "{to}");
    }
}

#[test]
fn any_changed_byte() {
    let log = Log::with_records(3);
    let sound = fs::read(&log.path).expect("read");
    for i in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[i] ^= 1;
        fs::write(&log.path, &bytes).expect("written");
        assert!(!log.verify().is_sound(), "byte {i}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_changed_mac_and_a_changed_last_record() {
    let log = Log::with_records(6);
    let mut lines = log.lines();
    lines[5] = lines[5].replace("GET", "PUT");
    log.write_lines(&lines);
    assert_eq!(log.faults(), [(6, FaultKind::Changed { seq: 6 })]);
    let at = lines[2].len() - 10;
    let other = if &lines[2][at..=at] == "0" { "1" } else { "0" };
    lines[2].replace_range(at..=at, other);
    log.write_lines(&lines);
    let faults = log.faults();
    assert_eq!(faults[0], (3, FaultKind::Changed { seq: 3 }));
}

#[test]
fn missing_records() {
    let log = Log::with_records(8);
    let mut lines = log.lines();
    lines.drain(3..5);
    log.write_lines(&lines);
    assert_eq!(log.faults(), [(4, FaultKind::Missing { from: 4, to: 5 })]);
    lines.remove(0);
    log.write_lines(&lines);
    assert_eq!(log.faults(), [(1, FaultKind::Headless), (3, FaultKind::Missing { from: 4, to: 5 })]);
}

#[test]
fn an_added_record() {
    let log = Log::with_records(6);
    let sound = log.lines();
    // With a number that fits, with one far ahead, and a copy of an older one.
    for (seq, kind) in [(4, FaultKind::Misplaced { seq: 4 }), (900, FaultKind::Misplaced { seq: 900 }), (2, FaultKind::Misplaced { seq: 2 })] {
        let mut lines = sound.clone();
        lines.insert(3, sound[1].replace("\"seq\":2", &format!("\"seq\":{seq}")));
        log.write_lines(&lines);
        assert_eq!(log.faults(), [(4, kind)], "{seq}");
    }
    let mut lines = sound.clone();
    lines.insert(3, "{\"event\":\"hello\"}".to_owned());
    log.write_lines(&lines);
    assert_eq!(log.faults(), [(4, FaultKind::NotARecord)]);
}

#[test]
fn reordered_records() {
    let log = Log::with_records(8);
    let mut lines = log.lines();
    lines.swap(3, 4);
    log.write_lines(&lines);
    let faults = log.faults();
    assert!(faults.contains(&(4, FaultKind::Misplaced { seq: 5 })), "{faults:?}");
    assert!(faults.contains(&(6, FaultKind::Missing { from: 5, to: 5 })), "{faults:?}");
    assert_eq!(faults.len(), 2);
}

#[test]
fn a_cut_tail() {
    let log = Log::with_records(8);
    let lines = log.lines();
    log.write_lines(&lines[..5]);
    assert_eq!(log.faults(), [(5, FaultKind::CutTail { from: 6, to: 8 })]);
    fs::remove_file(&log.path).expect("removed");
    assert_eq!(log.faults(), [(0, FaultKind::CutTail { from: 1, to: 8 })]);
}

#[test]
fn a_cut_tail_stays_known_when_the_log_goes_on() {
    let log = Log::with_records(8);
    log.write_lines(&log.lines()[..5]);
    // The log goes on, and the checkpoint with it.
    log.append("/later");
    log.append("/later");
    let faults = log.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(matches!(&faults[0], (6, FaultKind::Gap { seq: 9, detail }) if detail.contains("records 6 to 8")), "{faults:?}");
}

#[test]
fn a_cut_is_seen_by_a_writer_at_work() {
    let log = Log::with_records(2);
    let open = log.open();
    (0..3).for_each(|_| open.record(request("/x")));
    open.flush();
    // Cut, and grown past its old size by someone without a checkpoint.
    log.write_lines(&log.lines()[..3]);
    for _ in 0..4 {
        append_now(&log.path, key(), log.options, &Kept::default(), request("/forger")).expect("written");
    }
    open.record(request("/y"));
    open.close();
    let faults = log.faults();
    assert!(faults.iter().any(|(_, f)| matches!(f, FaultKind::Gap { .. })), "{faults:?}");
}

#[test]
fn a_removed_log_stays_known() {
    let log = Log::with_records(8);
    fs::remove_file(&log.path).expect("removed");
    log.append("/later");
    let faults = log.faults();
    assert!(matches!(&faults[..], [(1, FaultKind::Gap { seq: 9, .. })]), "{faults:?}");
}

#[test]
fn an_older_copy_put_back_is_seen_by_the_checkpoint() {
    let log = Log::with_records(3);
    let old = log.lines();
    log.append("/4");
    let real = log.kept.load().expect("loaded");
    // The same chain, gone on with otherwise from record 3.
    log.write_lines(&old);
    for _ in 0..3 {
        append_now(&log.path, key(), log.options, &Kept(Mutex::new(None)), request("/other")).expect("written");
    }
    let report = verify(&log.path, &key(), real).expect("read");
    assert_eq!(report.faults.iter().map(|f| &f.kind).collect::<Vec<_>>(), [&FaultKind::NotAsCheckpoint { seq: 4 }]);
}

#[test]
fn a_missing_file_in_the_middle_and_files_out_of_order() {
    let many = || {
        let log = Log::new(AuditOptions { max_size: 1, keep: 10 });
        (0..5).for_each(|i| log.append(&format!("/{i}")));
        log
    };
    let log = many();
    fs::remove_file(files::rotated(&log.path, 2)).expect("removed");
    let report = log.verify();
    assert_eq!(report.faults.len(), 1, "{report:?}");
    assert_eq!((report.faults[0].file.as_str(), report.faults[0].line), ("audit.jsonl.1", 1));
    assert!(matches!(report.faults[0].kind, FaultKind::Missing { from: 5, to: 6 }), "{report:?}");

    let log = many();
    let (a, b, spare) = (files::rotated(&log.path, 2), files::rotated(&log.path, 1), log.path.with_extension("spare"));
    fs::rename(&a, &spare).and_then(|()| fs::rename(&b, &a)).and_then(|()| fs::rename(&spare, &b)).expect("swapped");
    assert!(!log.verify().is_sound());

    let log = many();
    for n in [4, 3] {
        fs::remove_file(files::rotated(&log.path, n)).expect("removed");
    }
    assert!(log.verify().is_sound(), "the oldest may go");
}

#[test]
fn a_torn_last_line_is_named_and_gone_on_from() {
    let log = Log::with_records(4);
    let whole = fs::read(&log.path).expect("read");
    let complete = log.kept.load().expect("loaded").expect("saved");
    let before = Checkpoint { seq: 3, mac: complete.mac };
    let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').expect("lines") + 1;
    for end in last + 1..whole.len() {
        fs::write(&log.path, &whole[..end]).expect("written");
        // The checkpoint is of a record that was on the disk.
        let kept = Kept::default();
        let mark = verify(&log.path, &key(), None).expect("read");
        assert!(mark.is_sound(), "{:?}", mark.faults);
        let torn = end < whole.len() - 1;
        assert_eq!(mark.notes.iter().filter(|n| n.kind == NoteKind::Torn && n.line == 4).count(), usize::from(torn), "{end}");
        append_now(&log.path, key(), log.options, &kept, request("/after")).expect("written");
        let report = verify(&log.path, &key(), kept.load().expect("loaded")).expect("read");
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!(report.records, if torn { 4 } else { 5 });
        assert_eq!(report.notes.len(), usize::from(torn));
        assert!(before.seq < report.last_seq);
    }
}

#[test]
fn tearing_a_record_in_the_middle_does_not_hide_it() {
    let log = Log::with_records(6);
    let mut lines = log.lines();
    lines[3].truncate(40);
    log.write_lines(&lines);
    let faults = log.faults();
    assert_eq!(faults, [(5, FaultKind::Missing { from: 4, to: 4 })]);
}

#[test]
fn rubbish_is_no_panic() {
    let log = Log::new(AuditOptions::default());
    let long = vec![b'x'; 300_000];
    let huge =
        format!("{{\"seq\":{},\"event\":\"audit.continue\",\"prev_seq\":{0},\"prev_mac\":\"{}\",\"mac\":\"{1}\"}}\n", u64::MAX, "a".repeat(64));
    for content in [&b"\0\0\0"[..], b"\n\n", b"{}\n[]\n", &long, huge.as_bytes(), &[0xff, b'\n', 0xfe]] {
        fs::write(&log.path, content).expect("written");
        let _ = log.verify();
        assert!(log.paths().is_empty());
        append_now(&log.path, key(), log.options, &Kept::default(), request("/x")).expect("written");
        let _ = log.verify();
        assert_eq!(log.paths(), ["/x"]);
        files::shift(&log.path, 0).expect("removed");
    }
    // With a checkpoint, such a file is taken as ours, and the numbers go no further than they can.
    let kept = Kept(Mutex::new(Some(Checkpoint { seq: 7, mac: ChainMac([1; 32]) })));
    fs::write(&log.path, &huge).expect("written");
    for _ in 0..3 {
        append_now(&log.path, key(), log.options, &kept, request("/x")).expect("written");
    }
    assert!(!verify(&log.path, &key(), None).expect("read").is_sound());
}

#[test]
fn faults_read_as_sentences() {
    let log = Log::with_records(6);
    let mut lines = log.lines();
    lines.remove(2);
    log.write_lines(&lines);
    assert_eq!(log.verify().faults[0].to_string(), "audit.jsonl:3: record 3 is missing before this line");
}
