//! What the demo's child does, step by step, and what must come of it. Parent and child read the same table.

/// A step.
pub struct Step {
    /// What it is, for the heading.
    pub title: &'static str,
    /// The host, always on port 443.
    pub host: &'static str,
    /// The method.
    pub method: &'static str,
    /// The request target.
    pub target: &'static str,
    /// What the child puts into `Authorization`.
    pub authorization: Own,
    /// Other header fields of the child.
    pub fields: &'static [(&'static str, &'static str)],
    /// The body, perhaps empty.
    pub body: &'static str,
    /// The status that the child must see.
    pub status: u16,
    /// What the origin must receive.
    pub arrives: Arrives,
    /// What the answer must hold: a header field's line or a part of the body.
    pub answer_holds: &'static [&'static str],
}

/// The child's own `Authorization`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The placeholder from `OPENROUTER_API_KEY`, as an SDK would send it.
    Placeholder,
    /// A key that the child made up.
    MadeUp,
    /// None.
    None,
}

/// What must reach the origin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrives {
    /// The request, with the real key in `Authorization` and nothing of the child's there.
    WithKey,
    /// The request as the child sent it, without any key.
    AsSent,
    /// Nothing: the proxy refuses.
    Nothing,
}

/// What the child puts where it makes a key up.
pub const MADE_UP: &str = "Bearer sk-or-v1-a-key-the-child-made-up";

/// The host that the key belongs to.
pub const HOME_HOST: &str = "openrouter.ai";
/// A host of somebody else.
pub const OTHER_HOST: &str = "example.net";
/// A host whose name looks as if it were the key's.
pub const LOOK_ALIKE: &str = "evilopenrouter.ai";

const COMPLETION: Step = Step {
    title: "",
    host: HOME_HOST,
    method: "POST",
    target: "/api/v1/chat/completions",
    authorization: Own::Placeholder,
    fields: &[("content-type", "application/json")],
    body: "",
    status: 200,
    arrives: Arrives::WithKey,
    answer_holds: &[],
};

const KEY_PAGE: Step = Step {
    title: "",
    method: "GET",
    target: "/api/v1/auth/key",
    authorization: Own::MadeUp,
    fields: &[("accept", "application/json")],
    ..COMPLETION
};

/// The steps, in their order.
pub const STEPS: &[Step] = &[
    Step {
        title: "a chat completion",
        fields: &[("content-type", "application/json"), ("http-referer", "https://my.app"), ("x-openrouter-title", "My app")],
        body: r#"{"model":"demo/hello","messages":[{"role":"user","content":"Hello?"}]}"#,
        answer_holds: &["Hello there.", "\"usage\""],
        ..COMPLETION
    },
    Step {
        title: "the same as a stream",
        body: r#"{"model":"demo/hello","stream":true,"messages":[{"role":"user","content":"Hello?"}]}"#,
        answer_holds: &["content-type: text/event-stream", ": OPENROUTER PROCESSING", "\"usage\"", "data: [DONE]"],
        ..COMPLETION
    },
    Step { title: "what the key may spend", answer_holds: &["\"limit_remaining\""], ..KEY_PAGE },
    Step {
        title: "no credits left: the origin's own answer",
        body: r#"{"model":"demo/payment-required","messages":[]}"#,
        status: 402,
        answer_holds: &["Insufficient credits"],
        ..COMPLETION
    },
    Step {
        title: "too many requests: the origin's own answer",
        body: r#"{"model":"demo/rate-limited","messages":[]}"#,
        status: 429,
        answer_holds: &["retry-after: 7", "Rate limit exceeded"],
        ..COMPLETION
    },
    Step {
        title: "minting another key: refused by the path rules",
        method: "POST",
        target: "/api/v1/keys",
        body: r#"{"name":"another"}"#,
        status: 403,
        arrives: Arrives::Nothing,
        answer_holds: &["path_denied"],
        ..COMPLETION
    },
    Step { title: "another host", host: OTHER_HOST, target: "/", arrives: Arrives::AsSent, ..KEY_PAGE },
    Step { title: "a look-alike host", host: LOOK_ALIKE, target: "/", authorization: Own::Placeholder, arrives: Arrives::AsSent, ..KEY_PAGE },
    Step { title: "a look-alike host, without any key", host: LOOK_ALIKE, authorization: Own::None, arrives: Arrives::AsSent, ..KEY_PAGE },
];

impl Step {
    /// The fields that the child sends beside `Authorization`, `Content-Length` included.
    #[must_use]
    pub fn sent(&self, placeholder: Option<&str>) -> Vec<(String, String)> {
        let mut fields = vec![("host".to_owned(), self.host.to_owned()), ("user-agent".to_owned(), "keyhatch-demo-child".to_owned())];
        fields.extend(self.fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        match (self.authorization, placeholder) {
            (Own::Placeholder, Some(value)) => fields.push(("authorization".to_owned(), format!("Bearer {value}"))),
            (Own::MadeUp, _) => fields.push(("authorization".to_owned(), MADE_UP.to_owned())),
            (Own::Placeholder | Own::None, _) => {}
        }
        if !self.body.is_empty() {
            fields.push(("content-length".to_owned(), self.body.len().to_string()));
        }
        fields
    }
}
