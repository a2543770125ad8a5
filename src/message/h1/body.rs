//! Bodies: where one ends, and which bytes of the connection are its content.

use http::HeaderMap;

use super::head::{Framing, HeadError, head_end, parse_trailers};

/// The longest line of a chunk's size with its extensions.
const MAX_CHUNK_LINE: usize = 1024;
/// What the lines of chunks may have, in all, beyond what chunks of that size need.
const MAX_EXCESS: u64 = 16 * 1024;
/// So much a chunk's line and its end may have, with twice the bytes that it carries.
const USUAL_LINE: u64 = 16;
/// The longest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;

/// Follows a body through the bytes of a connection.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    /// What the lines of chunks had too much, so far.
    excess: u64,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers { scanned: usize },
    Done,
}

/// One step through a body.
#[derive(Debug)]
pub enum Piece {
    /// The next `skip` bytes are framing, and the `len` bytes after them content.
    Data {
        /// Framing to pass over.
        skip: usize,
        /// Content that follows it; perhaps none.
        len: usize,
    },
    /// The body is over, `skip` more bytes belong to it.
    End {
        /// Framing to pass over.
        skip: usize,
        /// The trailer fields of a chunked body.
        trailers: Option<HeaderMap>,
    },
    /// More bytes are needed.
    More,
}

/// Why a body cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk is malformed.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// The trailers are malformed or too long.
    #[error("the trailers are malformed: {0}")]
    Trailers(HeadError),
    /// The connection closed before the body's end.
    #[error("the connection closed before the body's end")]
    CutShort,
}

impl BodyReader {
    /// A reader for a body delimited so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, excess: 0 }
    }

    /// Whether the body is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Looks at the bytes that have come and says what the first of them are. The caller takes `skip + len`
    /// bytes off the front and calls again.
    ///
    /// # Errors
    /// [`BodyError`] where the framing is broken: the connection is of no more use.
    pub fn next(&mut self, buffer: &[u8]) -> Result<Piece, BodyError> {
        if matches!(self.state, State::Done) {
            return Ok(Piece::End { skip: 0, trailers: None });
        }
        if buffer.is_empty() {
            return Ok(Piece::More);
        }
        match &mut self.state {
            State::Done => Ok(Piece::End { skip: 0, trailers: None }),
            State::UntilClose => Ok(Piece::Data { skip: 0, len: buffer.len() }),
            State::Length(left) => {
                let len = clamp(*left, buffer.len());
                *left -= len as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Piece::Data { skip: 0, len })
            }
            State::ChunkSize => self.chunk_size(buffer),
            State::ChunkData(left) => {
                let len = clamp(*left, buffer.len());
                *left -= len as u64;
                if *left == 0 {
                    self.state = State::ChunkEnd;
                }
                Ok(Piece::Data { skip: 0, len })
            }
            State::ChunkEnd => match buffer {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(Piece::Data { skip: 2, len: 0 })
                }
                [b'\r'] => Ok(Piece::More),
                _ => Err(BodyError::Chunk),
            },
            State::Trailers { scanned } => {
                let end = if buffer.starts_with(b"\r\n") { Some(2) } else { head_end(buffer, scanned, MAX_TRAILERS).map_err(BodyError::Trailers)? };
                let Some(end) = end else { return Ok(Piece::More) };
                let trailers = if end == 2 { None } else { Some(parse_trailers(&buffer[..end]).map_err(BodyError::Trailers)?) };
                self.state = State::Done;
                Ok(Piece::End { skip: end, trailers })
            }
        }
    }

    /// The connection closed: whether that is the body's end.
    ///
    /// # Errors
    /// [`BodyError::CutShort`] where more was to come.
    pub fn closed(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::CutShort),
        }
    }

    /// One to fifteen hexadecimal digits, perhaps extensions, CR LF (RFC 9112 7.1).
    fn chunk_size(&mut self, buffer: &[u8]) -> Result<Piece, BodyError> {
        let Some(lf) = memchr::memchr(b'\n', &buffer[..buffer.len().min(MAX_CHUNK_LINE)]) else {
            return if buffer.len() >= MAX_CHUNK_LINE { Err(BodyError::Chunk) } else { Ok(Piece::More) };
        };
        let line = buffer[..lf].strip_suffix(b"\r").ok_or(BodyError::Chunk)?;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension_ok = match &line[digits..] {
            [] => true,
            // White space before the semicolon is "bad whitespace": it may be read, never sent.
            rest => rest.trim_ascii_start().first().is_none_or(|&b| b == b';') && rest.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f)),
        };
        if !(1..=15).contains(&digits) || !extension_ok {
            return Err(BodyError::Chunk);
        }
        let size = line[..digits].iter().fold(0_u64, |n, &b| n * 16 + u64::from(char::from(b).to_digit(16).unwrap_or(0)));
        // Extensions that carry nothing are bounded for the whole body, not for a chunk alone.
        self.excess = (self.excess + lf as u64 + 3).saturating_sub(USUAL_LINE.saturating_add(size.saturating_mul(2)));
        if self.excess > MAX_EXCESS {
            return Err(BodyError::Chunk);
        }
        self.state = if size == 0 { State::Trailers { scanned: 0 } } else { State::ChunkData(size) };
        Ok(Piece::Data { skip: lf + 1, len: 0 })
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |l| l.min(available))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, trailers, and what is left.
    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Feeds `input` in steps of `step` bytes.
    fn read(framing: Framing, input: &[u8], step: usize) -> Result<Read, BodyError> {
        let mut reader = BodyReader::new(framing);
        let (mut buffer, mut content) = (Vec::new(), Vec::new());
        let mut parts = input.chunks(step);
        loop {
            match reader.next(&buffer)? {
                Piece::Data { skip, len } => {
                    content.extend_from_slice(&buffer[skip..skip + len]);
                    buffer.drain(..skip + len);
                }
                Piece::End { skip, trailers } => {
                    buffer.drain(..skip);
                    buffer.extend(parts.flatten());
                    return Ok((content, trailers, buffer));
                }
                Piece::More => match parts.next() {
                    Some(part) => buffer.extend_from_slice(part),
                    None => {
                        reader.closed()?;
                        return Ok((content, None, buffer));
                    }
                },
            }
        }
    }

    #[test]
    fn every_split_of_a_chunked_body() {
        let input = b"3;ext=\"a\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
        for step in 1..input.len() {
            let (content, trailers, rest) = read(Framing::Chunked, input, step).expect("valid");
            assert_eq!(content, b"abc0123456789");
            assert_eq!(trailers.expect("trailers")["x-sum"], "1");
            assert_eq!(rest, b"GET /");
        }
    }

    #[test]
    fn lengths_and_close() {
        let (content, _, rest) = read(Framing::Length(3), b"abcdef", 2).expect("valid");
        assert_eq!((&content[..], &rest[..]), (&b"abc"[..], &b"def"[..]));
        assert_eq!(read(Framing::Length(9), b"abc", 2).expect_err("short"), BodyError::CutShort);
        assert_eq!(read(Framing::UntilClose, b"abc", 2).expect("valid").0, b"abc");
    }

    #[test]
    fn broken_chunks_are_refused() {
        for input in [
            &b"\r\nabc"[..],
            b"g\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n",
            b"0x3\r\nabc\r\n",
            b"3 3\r\nabc\r\n",
            b"-3\r\n",
            b"3;\x00\r\nabc\r\n0\r\n\r\n",
            b"10000000000000000\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"0\r\nX : a\r\n\r\n",
            b"0\r\nX: a\n\n",
            b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        ] {
            assert!(
                matches!(read(Framing::Chunked, input, 1), Err(BodyError::Chunk | BodyError::Trailers(_))),
                "{:?}",
                String::from_utf8_lossy(input)
            );
        }
        assert!(read(Framing::Chunked, &[b'1'; 2000], 100).is_err());
        // Extensions in all, too; single bytes with short ones are no more than they need.
        let chunks = |extension: usize| [format!("1;{}\r\na\r\n", "e".repeat(extension)).repeat(1000).as_bytes(), b"0\r\n\r\n"].concat();
        assert!(read(Framing::Chunked, &chunks(500), 1000).is_err());
        assert_eq!(read(Framing::Chunked, &chunks(5), 1000).expect("valid").0.len(), 1000);
        assert_eq!(read(Framing::Chunked, b"3\r\nabc\r\n", 4).expect_err("no end"), BodyError::CutShort);
    }
}
