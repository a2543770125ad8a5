//! What is kept of a request that may have to be sent again.

use http::HeaderMap;

/// So much of a request's content is kept until the answer begins.
const KEPT: usize = 64 * 1024;

/// What of a request's content has been taken from the agent, as long as the request may have to be sent again.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) content: Vec<u8>,
    /// It was too much to be kept.
    lost: bool,
    /// The content has ended, perhaps with trailers.
    pub(super) end: Option<Option<HeaderMap>>,
}

impl Taken {
    /// Whether all that was taken is there.
    pub(super) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// More has been taken.
    pub(super) fn keep(&mut self, content: &[u8]) {
        self.lost |= self.content.len() + content.len() > KEPT;
        if self.lost {
            self.content = Vec::new();
        } else {
            self.content.extend_from_slice(content);
        }
    }

    /// It will not be sent again.
    pub(super) fn forget(&mut self) {
        self.content = Vec::new();
        self.lost = true;
    }
}
