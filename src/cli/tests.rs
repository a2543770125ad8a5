use clap::CommandFactory as _;

use super::Cli;

fn all(command: &clap::Command, path: &str, out: &mut Vec<(String, clap::Command)>) {
    out.push((path.to_owned(), command.clone()));
    for c in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        all(c, &format!("{path} {}", c.get_name()), out);
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_help_with_an_example() {
    let mut commands = Vec::new();
    all(&Cli::command(), "keyhatch", &mut commands);
    assert!(commands.len() > 35, "{}", commands.len());
    for (path, command) in commands {
        let about = command.get_about().unwrap_or_else(|| panic!("{path} has no help")).to_string();
        assert!(!about.contains('\n'), "{path}: the first paragraph is one line: {about}");
        let long = command.get_long_about().unwrap_or_else(|| panic!("{path} has no long help")).to_string();
        assert!(long.contains("Example"), "{path} has no example");
        assert!(long.lines().any(|l| l.trim_start().contains(&path)), "{path}: no example begins with it:\n{long}");
        for line in long.lines() {
            assert!(line.len() <= 100, "{path}: too long for a terminal: {line}");
        }
        for arg in command.get_arguments().filter(|a| a.get_id() != "help" && a.get_id() != "version") {
            assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
        }
    }
}

#[test]
fn help_texts_name_no_option_that_does_not_exist() {
    let mut commands = Vec::new();
    all(&Cli::command(), "keyhatch", &mut commands);
    let known: Vec<String> =
        commands.iter().flat_map(|(_, c)| c.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect::<Vec<_>>()).collect();
    for (path, command) in commands {
        let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        for word in long.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter_map(|w| w.strip_prefix("--")).filter(|w| !w.is_empty()) {
            assert!(known.iter().any(|k| k == word) || word == "help", "{path}: --{word}");
        }
    }
}
