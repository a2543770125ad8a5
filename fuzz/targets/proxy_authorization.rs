//! `Proxy-Authorization`: nothing authenticates but what was made.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhatch::agent::{AgentName, AgentToken};
use keyhatch::policy::{AgentEntry, Egress, Roster, Snapshot};
use keyhatch::proxy::fuzzed::shown;
use keyhatch::session::{Claims, SessionKey, SessionKind, mint, verify};
use zeroize::Zeroizing;

use super::input::Input;

/// When the tokens are looked at.
const NOW: i64 = 1_000;

struct Stage {
    snapshot: Snapshot,
    key: SessionKey,
    /// Each agent's tokens: its own, a session in force, and one that is over.
    tokens: Vec<(String, String, bool)>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let key = SessionKey::new(Zeroizing::new([7; 32]));
    let (mut agents, mut tokens) = (Vec::new(), Vec::new());
    for (at, name) in ["default", "ci"].into_iter().enumerate() {
        let token = AgentToken::from_random(&[at as u8; 32]);
        let name = AgentName::parse(name).expect("a name");
        agents.push(AgentEntry { name: name.clone(), token: token.digest(), generation: 3 });
        tokens.push((name.to_string(), token.expose().to_owned(), true));
        for (expires, good) in [(NOW + 1, true), (NOW, false)] {
            let claims = Claims { agent: name.clone(), generation: 3, expires, id: at as u64, kind: SessionKind::Env };
            tokens.push((name.to_string(), mint(&key, &claims).to_string(), good));
        }
    }
    let egress = Egress { allow_by_default: true, allow_hosts: Vec::new(), deny_hosts: Vec::new(), ports: vec![443] };
    Stage { snapshot: Snapshot::compile(&Roster { credentials: Vec::new(), agents, grants: Vec::new() }, egress, 1), key, tokens }
});

/// The input: how it is made into a value (as it is, or with a good token somewhere in it), then its bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, which, at) = (input.byte(), input.byte(), input.byte());
    let (name, token, good) = &STAGE.tokens[usize::from(which) % STAGE.tokens.len()];
    let text = input.rest();
    match kind % 4 {
        0 => value(text),
        // A name, and a token of which a byte may be another one.
        1 => {
            let mut changed = token.clone().into_bytes();
            let place = usize::from(at) % changed.len();
            changed[place] ^= text.first().copied().unwrap_or_default();
            value(&[b"Bearer ", &changed[..]].concat());
            let pair = [text.get(1..).unwrap_or_default(), b":", &changed].concat();
            value(&[b"Basic ", STANDARD.encode(pair).as_bytes()].concat());
        }
        // Around a good one.
        2 => {
            let (before, after) = text.split_at(usize::from(at).min(text.len()));
            value(&[before, token.as_bytes(), after].concat());
            value(&[b"Basic ", STANDARD.encode([before, token.as_bytes(), after].concat()).as_bytes()].concat());
        }
        _ => {
            for scheme in ["Basic", "bASIC"] {
                assert_eq!(proved(format!("{scheme} {}", STANDARD.encode(format!("{name}:{token}"))).as_bytes()).is_some(), *good);
            }
            assert_eq!(proved(format!("Bearer  {token} ").as_bytes()).is_some(), *good);
            value(text);
        }
    }
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(claims) = verify(&STAGE.key, text, 0)
    {
        assert_eq!(*mint(&STAGE.key, &claims), text, "one token has one spelling");
    }
}

/// The agent that a value proves, as `authenticate` composes it.
fn proved(value: &[u8]) -> Option<String> {
    let shown = shown(value)?;
    let session = || verify(&STAGE.key, std::str::from_utf8(&shown.token).ok()?, NOW).ok().map(|c| c.agent.to_string());
    let agent = STAGE.snapshot.agent_by_token(&shown.token).map(|view| view.name.to_string()).or_else(session)?;
    shown.name.is_none_or(|name| name == agent).then_some(agent)
}

fn value(value: &[u8]) {
    let read = shown(value);
    let naive = naive(value);
    assert_eq!(read.as_ref().map(|s| (s.name.clone().map(String::into_bytes), s.token.to_vec())), naive, "{:?}", value.escape_ascii().to_string());
    let Some(agent) = proved(value) else { return };
    let (name, token) = naive.expect("it was read");
    let made = STAGE.tokens.iter().any(|(of, made, good)| *good && *of == agent && made.as_bytes() == token);
    assert!(made && name.is_none_or(|name| name == agent.as_bytes()), "{:?} is {agent}'s", value.escape_ascii().to_string());
}

/// RFC 7617 and RFC 6750, with base64 decoded bit by bit. Padding may be left out.
fn naive(value: &[u8]) -> Option<(Option<Vec<u8>>, Vec<u8>)> {
    let space = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = (value[..space].to_ascii_lowercase(), value[space + 1..].trim_ascii());
    match scheme.as_slice() {
        b"bearer" => Some((None, rest.to_vec())),
        b"basic" => {
            let digits = rest.iter().position(|b| *b == b'=').unwrap_or(rest.len());
            let (digits, padding) = rest.split_at(digits);
            let whole = (4 - digits.len() % 4) % 4;
            // Padding is left out, or is right: a client that sends some of it has cut something off.
            let padded = padding.iter().all(|b| *b == b'=') && padding.len() <= whole;
            if !padded || whole == 3 {
                return None;
            }
            let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
            for digit in digits {
                let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|b| b == digit)?;
                bits = bits << 6 | value as u32;
                count += 6;
                if count >= 8 {
                    count -= 8;
                    out.push((bits >> count) as u8);
                    bits &= (1 << count) - 1;
                }
            }
            let colon = out.iter().position(|b| *b == b':').filter(|_| bits == 0)?;
            std::str::from_utf8(&out[..colon]).ok()?;
            Some((Some(out[..colon].to_vec()), out[colon + 1..].to_vec()))
        }
        _ => None,
    }
}
