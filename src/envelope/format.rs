//! The canonical encoding of everything that is authenticated.
//!
//! Every value has one encoding, and no two lists of values share one: a label comes first, each string and list
//! carries its length, an option its tag. So nothing can be moved over the border between two neighbouring fields.

/// The version of every encoding and sealed form in this module. It is the first byte of a sealed blob and part
/// of all associated data.
pub const FORMAT: u8 = 1;

/// Writes values one after another.
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins with a label, which says what the bytes are and keeps two uses apart.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let mut out = Self(vec![FORMAT]);
        out.text(label);
        out
    }

    /// A byte.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A yes or no.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.byte(u8::from(value))
    }

    /// An unsigned number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A signed number.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes, after their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A string, after its length in bytes.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A list: its length, then what `each` writes for every element.
    pub fn list<T>(&mut self, values: &[T], mut each: impl for<'e> FnMut(&'e mut Self, &T) -> &'e mut Self) -> &mut Self {
        self.number(values.len() as u64);
        for value in values {
            each(self, value);
        }
        self
    }

    /// A tag for presence, then what `each` writes.
    pub fn option<T>(&mut self, value: Option<T>, each: impl for<'e> FnOnce(&'e mut Self, T) -> &'e mut Self) -> &mut Self {
        self.flag(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
        self
    }

    /// The encoding.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Bytes that are no encoding of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is cut short or garbled")]
pub struct DecodeError;

/// Reads values in the order in which an [`Encoder`] wrote them. Lengths are checked before anything is allocated.
pub struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Begins where `label` is what the bytes say they are.
    ///
    /// # Errors
    /// [`DecodeError`] where they say something else.
    pub fn new(bytes: &'a [u8], label: &str) -> Result<Self, DecodeError> {
        let mut out = Self(bytes);
        if out.byte()? != FORMAT || out.text()? != label {
            return Err(DecodeError);
        }
        Ok(out)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(front)
    }

    /// A byte.
    ///
    /// # Errors
    /// [`DecodeError`] at the end of the bytes; so for all methods below.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// A yes or no; nothing but 0 and 1 is one.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError),
        }
    }

    /// A fixed number of bytes.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.bytes()?.try_into().map_err(|_| DecodeError)
    }

    /// An unsigned number.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| DecodeError)
    }

    /// A signed number.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        self.take(8)?.try_into().map(i64::from_be_bytes).map_err(|_| DecodeError)
    }

    /// Bytes.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.number()?).map_err(|_| DecodeError)?;
        self.take(len)
    }

    /// A string.
    ///
    /// # Errors
    /// [`DecodeError`], also where it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError)
    }

    /// A list.
    ///
    /// # Errors
    /// [`DecodeError`], and what `each` gives.
    pub fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let len = self.number()?;
        let mut out = Vec::new();
        for _ in 0..len {
            out.push(each(self)?);
        }
        Ok(out)
    }

    /// An option.
    ///
    /// # Errors
    /// [`DecodeError`], and what `each` gives.
    pub fn option<T>(&mut self, each: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<Option<T>, DecodeError> {
        if self.flag()? { each(self).map(Some) } else { Ok(None) }
    }

    /// The end: nothing may be left over.
    ///
    /// # Errors
    /// [`DecodeError`] where something is.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_run_into_each_other() {
        let two = |a: &str, b: &str| Encoder::new("t").text(a).text(b).finish();
        assert_ne!(two("ab", "c"), two("a", "bc"));
        assert_ne!(two("", "a"), two("a", ""));
        let lists = |a: &[&str], b: &[&str]| Encoder::new("t").list(a, |e, v| e.text(v)).list(b, |e, v| e.text(v)).finish();
        assert_ne!(lists(&["a"], &[]), lists(&[], &["a"]));
        assert_ne!(Encoder::new("t").text("x").finish(), Encoder::new("tx").finish());
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let bytes =
            Encoder::new("t").flag(true).number(7).signed(-7).text("ä").option(None::<u8>, |e, _| e).list(&[1_u8, 2], |e, v| e.byte(*v)).finish();
        let read = |bytes: &[u8]| {
            let mut d = Decoder::new(bytes, "t")?;
            let out = (d.flag()?, d.number()?, d.signed()?, d.text()?.to_owned(), d.option(Decoder::byte)?, d.list(Decoder::byte)?);
            d.finish().map(|()| out)
        };
        assert_eq!(read(&bytes), Ok((true, 7, -7, "ä".to_owned(), None, vec![1, 2])));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Err(DecodeError), "{end}");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(DecodeError));
        assert!(Decoder::new(&bytes, "u").is_err());
    }

    #[test]
    fn an_absurd_length_allocates_nothing() {
        let mut bytes = Encoder::new("t").finish();
        bytes.extend_from_slice(&u64::MAX.to_be_bytes());
        assert!(Decoder::new(&bytes, "t").expect("label").bytes().is_err());
        assert!(Decoder::new(&bytes, "t").expect("label").list(Decoder::byte).is_err());
    }
}
