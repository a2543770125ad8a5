//! HTTP/1 as this proxy reads and writes it (RFC 9112), without IO.
//!
//! The reader refuses everything that two programs could frame in two ways: a bare LF or CR, a space before a
//! colon, folded lines, a Content-Length beside a Transfer-Encoding, a repeated or odd length, any coding but
//! `chunked`. What is accepted is written anew by [`write_request`] and [`write_response`].

mod body;
mod head;
mod write;

pub use body::{BodyError, BodyReader, Piece};
pub use head::{
    Framing, HeadError, MAX_FIELDS, RequestHead, ResponseHead, Target, content_length, head_end, parse_request, parse_response, parse_trailers,
};
pub use write::{fields_len, write_chunk_head, write_last_chunk, write_request, write_response};
