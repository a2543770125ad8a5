//! HTTP/1.1 by hand: heads and bodies, read piece by piece.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::Fields;

/// A connection, encrypted or not.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The reading half with what has been read ahead.
pub struct Reading<R> {
    io: R,
    buffer: BytesMut,
}

/// How the rest of a body is framed.
#[derive(Debug)]
pub enum Framing {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks: so many bytes of the present one are to come, and whether any has come before.
    Chunked(u64, bool),
    /// All until the connection ends.
    UntilClose,
    /// It has ended, with these trailers where it was chunked.
    Over(Option<Fields>),
}

impl<R: AsyncRead + Unpin> Reading<R> {
    /// Nothing has been read.
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    /// Reads more; false at the end.
    pub async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 << 10);
        Ok(self.io.read_buf(&mut self.buffer).await? > 0)
    }

    /// Reads whatever comes and throws it away, until the end.
    pub async fn drain(&mut self) {
        while let Ok(true) = self.fill().await {
            self.buffer.clear();
        }
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end).to_vec();
                self.buffer.advance(2);
                return Ok(line);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The first line of a head and its fields; `None` where the connection ends before it.
    pub async fn head(&mut self) -> io::Result<Option<(String, Fields)>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let first = String::from_utf8_lossy(&self.line().await?).into_owned();
        Ok(Some((first, self.fields().await?)))
    }

    async fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Fields::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = memchr::memchr(b':', &line).ok_or_else(|| io::Error::other("a field without a colon"))?;
            fields.push((String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    /// The next piece of a body; `None` at its end.
    pub async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        loop {
            match framing {
                Framing::Over(_) => return Ok(None),
                Framing::Length(0) => *framing = Framing::Over(None),
                Framing::Length(left) | Framing::Chunked(left @ 1.., _) => return self.some(left).await.map(Some),
                Framing::UntilClose => {
                    if !self.buffer.is_empty() || self.fill().await? {
                        return Ok(Some(self.buffer.split().freeze()));
                    }
                    *framing = Framing::Over(None);
                }
                Framing::Chunked(0, begun) => {
                    if std::mem::replace(begun, true) && !self.line().await?.is_empty() {
                        return Err(io::Error::other("bytes after a chunk"));
                    }
                    let line = self.line().await?;
                    let digits = String::from_utf8_lossy(line.split(|&b| b == b';').next().unwrap_or_default()).trim().to_owned();
                    let size = u64::from_str_radix(&digits, 16).map_err(io::Error::other)?;
                    *framing = if size == 0 { Framing::Over(Some(self.fields().await?)) } else { Framing::Chunked(size, true) };
                }
            }
        }
    }

    async fn some(&mut self, left: &mut u64) -> io::Result<Bytes> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = self.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= size as u64;
        Ok(self.buffer.split_to(size).freeze())
    }
}

/// How a message's fields frame its body: `None` where they do not.
pub fn framing(fields: &Fields) -> Option<Framing> {
    if super::values(fields, "transfer-encoding").iter().any(|v| v.eq_ignore_ascii_case(b"chunked")) {
        return Some(Framing::Chunked(0, false));
    }
    let length = *super::values(fields, "content-length").first()?;
    Some(Framing::Length(std::str::from_utf8(length).ok()?.parse().ok()?))
}

/// A head's bytes.
pub fn write_head(first: &str, fields: &Fields) -> Vec<u8> {
    let mut out = format!("{first}\r\n").into_bytes();
    for (name, value) in fields {
        out.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// A chunk's bytes.
pub fn write_chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The last chunk's bytes, with trailers.
pub fn write_last(trailers: &Fields) -> Vec<u8> {
    write_head("0", trailers)
}
