//! Reading a file line by line, whatever is in it, in bounded memory.

use std::io::{self, BufRead, Read as _};

use super::record::LINE_MAX;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line; the buffer holds it without its line feed.
    Line,
    /// What stands at the end without a line feed.
    Unfinished,
    /// A line that no record can be; the buffer holds its beginning.
    TooLong,
}

/// Reads the next line into `buffer`; returns what it is and how many bytes of the file it took. `None` at the end.
///
/// # Errors
/// As reading a file.
pub(super) fn next_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Option<(Piece, u64)>> {
    buffer.clear();
    let read = reader.take(LINE_MAX as u64 + 1).read_until(b'\n', buffer)?;
    if read == 0 {
        return Ok(None);
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        return Ok(Some((Piece::Line, read as u64)));
    }
    if read <= LINE_MAX {
        return Ok(Some((Piece::Unfinished, read as u64)));
    }
    let skipped = skip_line(reader)?;
    Ok(Some((Piece::TooLong, read as u64 + skipped)))
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let chunk = reader.fill_buf()?;
        let (n, done) = match memchr::memchr(b'\n', chunk) {
            Some(i) => (i + 1, true),
            None => (chunk.len(), chunk.is_empty()),
        };
        reader.consume(n);
        skipped += n as u64;
        if done {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind() {
        let mut content = b"one\n\n".to_vec();
        content.extend(vec![b'x'; 3 * LINE_MAX]);
        content.extend(b"\nlast");
        let mut reader = io::BufReader::with_capacity(1000, &content[..]);
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        let mut total = 0;
        while let Some((piece, n)) = next_line(&mut reader, &mut buffer).expect("read") {
            total += n;
            seen.push((piece, buffer.len()));
        }
        assert_eq!(seen, [(Piece::Line, 3), (Piece::Line, 0), (Piece::TooLong, LINE_MAX + 1), (Piece::Unfinished, 4)]);
        assert_eq!(total, content.len() as u64);
    }
}
