//! What the fuzz target of Vault's answers, which is no part of the crate, looks at.

use jiff::Timestamp;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::answers::{self, Fields};
use super::error::VaultError;
use super::unescape::unescaped;

/// What every reader makes of one body.
pub struct Answers {
    /// The fields that KV version 2 has.
    pub kv2: Option<Fields>,
    /// The fields that any other engine has.
    pub plain: Option<Fields>,
    /// The body as one text, where it is a JSON string.
    pub text: Option<Zeroizing<String>>,
    /// What the readers say of a body that they cannot read, and what is made of it under each status.
    pub errors: Vec<VaultError>,
}

/// Reads a body as every kind of answer.
#[must_use]
pub fn answers(body: &[u8]) -> Answers {
    let mut errors = Vec::new();
    let kv2 = kept(answers::kv2(body, "p"), &mut errors).flatten().map(|r| r.fields);
    let plain = kept(answers::plain(body, "p"), &mut errors).map(|r| r.fields);
    kept(answers::lease(body), &mut errors);
    kept(answers::metadata(body, "p", Timestamp::UNIX_EPOCH), &mut errors);
    kept(answers::keys(body, "p"), &mut errors);
    kept(answers::mount(body, "auth/p"), &mut errors);
    kept(answers::health(body), &mut errors);
    kept(answers::token_info(body), &mut errors);
    kept(answers::grant(body, "p"), &mut errors);
    kept(answers::text(body, "ciphertext", "p"), &mut errors);
    kept(answers::base64_secret(body, "plaintext", "p"), &mut errors);
    kept(answers::secret(body, "secret_id", "p"), &mut errors);
    kept(answers::signed(body, "p"), &mut errors);
    let answer = |status| Answer {
        status,
        body: Zeroizing::new(body.to_vec()),
        path: "p".to_owned(),
        verb: "read",
        said: String::new(),
        at: "https://vault".to_owned(),
    };
    errors.extend([307, 400, 403, 404, 429, 500, 503].map(|status| answer(status).failure()));
    let text = serde_json::from_slice::<&RawValue>(body).ok().and_then(unescaped);
    Answers { kv2, plain, text, errors }
}

fn kept<T>(read: Result<T, VaultError>, errors: &mut Vec<VaultError>) -> Option<T> {
    read.map_err(|e| errors.push(e)).ok()
}
