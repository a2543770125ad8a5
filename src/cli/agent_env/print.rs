//! The environment as text: for `eval`, for a file, or as JSON. A value may be hostile (a path with quotes and newlines in it).

use zeroize::Zeroizing;

use super::Variables;

/// How `env` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// `export NAME='value'`, for every POSIX shell.
    Sh,
    /// `set -gx NAME 'value'`.
    Fish,
    /// `NAME=value`, quoted only where a value needs it.
    Dotenv,
    /// One object.
    Json,
}

/// All variables in the form asked for, with a newline at the end.
pub(crate) fn print(variables: &Variables, format: Format) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(8 * 1024));
    if format == Format::Json {
        let plain: std::collections::BTreeMap<&str, &str> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        out.push_str(&Zeroizing::new(serde_json::to_string_pretty(&plain).expect("strings have a JSON form")));
        out.push('\n');
        return out;
    }
    for (name, value) in variables {
        let (before, quoted) = match format {
            Format::Sh => ("export ", sh(value)),
            Format::Fish => ("set -gx ", fish(value)),
            Format::Dotenv | Format::Json => ("", dotenv(value)),
        };
        let between = if format == Format::Fish { " " } else { "=" };
        for part in [before, name, between, quoted.as_str(), "\n"] {
            out.push_str(part);
        }
    }
    out
}

/// Single quotes hold everything but a single quote.
fn sh(value: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("'{}'", Zeroizing::new(value.replace('\'', r"'\''")).as_str()))
}

/// In fish's single quotes a backslash escapes itself and the quote.
fn fish(value: &str) -> Zeroizing<String> {
    let escaped = Zeroizing::new(Zeroizing::new(value.replace('\\', r"\\")).replace('\'', r"\'"));
    Zeroizing::new(format!("'{}'", escaped.as_str()))
}

/// Bare where every reader agrees (`docker --env-file` knows no quotes), else in double quotes.
fn dotenv(value: &str) -> Zeroizing<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@,+%=".contains(&b);
    if value.bytes().all(plain) {
        return Zeroizing::new(value.to_owned());
    }
    let mut out = Zeroizing::new(String::with_capacity(value.len() * 2 + 2));
    out.push('"');
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' | '`' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const HOSTILE: [&str; 9] = [
        "",
        "plain",
        "a b\tc",
        "it's; rm -rf \"$HOME\" `id` $(id) \\ \\\\ !history",
        "line\nbreak\n",
        "'''",
        "-n ~ * ? [a] {b,c} # & | < >",
        "ünï\u{202e}code",
        "a=b=c",
    ];

    fn variables() -> Variables {
        HOSTILE.iter().enumerate().map(|(i, v)| (format!("KH_T{i}"), Zeroizing::new((*v).to_owned()))).collect()
    }

    #[test]
    fn a_shell_reads_back_what_was_printed() {
        let variables = variables();
        let mut script = print(&variables, Format::Sh).to_string();
        for name in variables.keys() {
            script.push_str(&format!("printf '%s\\0' \"${name}\"\n"));
        }
        let output = Command::new("/bin/sh").arg("-c").arg(&script).env_clear().output().expect("a shell");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let mut want = HOSTILE.join("\0").into_bytes();
        want.push(0);
        assert_eq!(output.stdout, want);
    }

    #[test]
    fn fish_and_dotenv() {
        assert_eq!(fish(r"it's \ $x").as_str(), r"'it\'s \\ $x'");
        assert_eq!(dotenv("http://a:b@127.0.0.1:8877").as_str(), "http://a:b@127.0.0.1:8877");
        assert_eq!(dotenv("a \"b\" $c `d` \\\n").as_str(), r#""a \"b\" \$c \`d\` \\\n""#);
        let text = print(&variables(), Format::Dotenv);
        assert_eq!(text.lines().count(), HOSTILE.len(), "one line each: {}", text.as_str());
    }

    #[test]
    fn json_reads_back() {
        let text = print(&variables(), Format::Json);
        let read: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).expect("JSON");
        assert!(HOSTILE.iter().enumerate().all(|(i, v)| read[&format!("KH_T{i}")] == *v));
    }
}
