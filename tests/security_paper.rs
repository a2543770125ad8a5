//! SECURITY.md promises nothing without a test: each "cannot" names one, and each name is a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::package_dir;

fn paper() -> String {
    std::fs::read_to_string(package_dir().join("SECURITY.md")).unwrap()
}

/// What stands between backticks and looks as a test's name does.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|q| q.contains("::") && q.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b':'))).collect()
}

/// The tests of this binary.
fn tests_here() -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Whether a unit test, or a module of such, has this name.
fn is_unit_test(name: &str) -> bool {
    let Some((module, function)) = name.rsplit_once("::") else { return false };
    file_of(module).is_some_and(|place| {
        let needle = format!("fn {function}()");
        holds(&place.with_extension("rs"), &needle) || holds(&place, &needle) || beside(&place, &needle)
    }) || (name.contains("::tests::") && file_of(name).is_some())
}

/// The file (without its ending) or the directory of a module below `src`. `tests` is mostly a part of the file itself.
fn file_of(module: &str) -> Option<PathBuf> {
    let is_there = |place: &Path| place.is_dir() || place.with_extension("rs").exists();
    module.split("::").try_fold(package_dir().join("src"), |place, part| {
        let next = place.join(part);
        if is_there(&next) { Some(next) } else { (part == "tests").then_some(place) }
    })
}

fn holds(place: &Path, needle: &str) -> bool {
    match std::fs::read_dir(place) {
        Ok(entries) => entries.flatten().any(|entry| holds(&entry.path(), needle)),
        Err(_) => std::fs::read_to_string(place).is_ok_and(|text| text.contains(needle)),
    }
}

/// `x_tests.rs` beside `x.rs`.
fn beside(place: &Path, needle: &str) -> bool {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    holds(&place.with_file_name(format!("{name}_tests.rs")), needle)
}

#[test]
fn every_test_that_it_names_is_there() {
    let (paper, here) = (paper(), tests_here());
    let named = names(&paper);
    assert!(named.len() > 60, "{}", named.len());
    // A module stands for all of its tests.
    let is_here = |name: &str| here.iter().any(|test| test.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")));
    let unknown: Vec<_> = named.iter().filter(|name| !is_here(name) && !is_unit_test(name)).collect();
    assert!(unknown.is_empty(), "no test has these names: {unknown:#?}");
}

#[test]
fn every_cannot_names_a_test() {
    let paper = paper();
    let mut seen = 0;
    for section in paper.split("cannot:\n").skip(1) {
        let list = section.split("\n\n").find(|block| block.starts_with("- ")).unwrap_or_else(|| panic!("a list after `cannot:` {section}"));
        for claim in list.split("\n- ") {
            assert!(!names(claim).is_empty(), "no test is named for: {claim}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} claims");
}
