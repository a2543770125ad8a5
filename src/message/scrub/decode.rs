//! Content codings (RFC 9110 8.4.1), decoded only to look inside.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use zeroize::Zeroizing;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::ScrubError;

/// The most codings stacked on one body.
const MOST_CODINGS: usize = 3;
/// A body may decode to this many bytes whatever its ratio.
const FREE: u64 = 16 << 20;
/// One that goes on decoded to this many: all that one step makes waits to be sent.
const FREE_OUT: u64 = 1 << 20;
/// Beyond that, to so many bytes for each that came.
const RATIO: u64 = 200;
/// How much is decoded at a time.
const STEP: usize = 16 << 10;
/// The largest zstd window: RFC 9659 bids a sender of this coding stay within 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// zstd asks for no more than this where the next thing is a block's header: nothing is half read.
const ZSTD_BLOCK_HEADER: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How a body is to be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoding(Vec<Coding>);

impl Decoding {
    /// Reads a `Content-Encoding` value; `None` where there is no coding but `identity`.
    ///
    /// # Errors
    /// [`ScrubError::Coding`] where a coding is unknown, or more than three are stacked.
    pub fn for_content_encoding(value: &str) -> Result<Option<Self>, ScrubError> {
        let mut codings = Vec::new();
        for name in value.split(',').map(|name| name.trim_matches([' ', '\t']).to_ascii_lowercase()) {
            codings.push(match name.as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(ScrubError::Coding),
            });
        }
        if codings.len() > MOST_CODINGS {
            return Err(ScrubError::Coding);
        }
        // They are listed in the order in which they were applied.
        codings.reverse();
        Ok((!codings.is_empty()).then_some(Self(codings)))
    }

    /// Reads all `Content-Encoding` fields of a response.
    ///
    /// # Errors
    /// As [`Decoding::for_content_encoding`]; also where a value is no text.
    pub fn of(fields: &HeaderMap) -> Result<Option<Self>, ScrubError> {
        let values = fields.get_all(header::CONTENT_ENCODING).iter().map(|value| value.to_str().map_err(|_| ScrubError::Coding));
        Self::for_content_encoding(&values.collect::<Result<Vec<_>, _>>()?.join(","))
    }

    /// A decoder that looks inside one body.
    pub(super) fn decoder(&self) -> Decoder {
        self.decoder_with(FREE)
    }

    /// A decoder for a body that goes on decoded.
    pub(super) fn output_decoder(&self) -> Decoder {
        self.decoder_with(FREE_OUT)
    }

    fn decoder_with(&self, free: u64) -> Decoder {
        Decoder {
            layers: self.0.iter().map(|&coding| Layer::new(coding)).collect(),
            budget: Budget { free, came: 0, made: 0 },
            at: Place::default(),
            settled: Place::default(),
        }
    }
}

/// The limits on ratio and work.
struct Budget {
    free: u64,
    came: u64,
    made: u64,
}

impl Budget {
    fn make(&mut self, count: usize) -> Result<(), ScrubError> {
        self.made += count as u64;
        if self.made > self.free && self.made > self.came.saturating_mul(RATIO) { Err(ScrubError::Expansion) } else { Ok(()) }
    }
}

/// Decodes one body, through all its codings.
pub(super) struct Decoder {
    layers: Vec<Layer>,
    budget: Budget,
    at: Place,
    settled: Place,
}

/// How many bytes have been read of a body, and made of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Place {
    pub(super) came: u64,
    pub(super) made: u64,
}

impl Decoder {
    /// Decodes more; hands `sink` all that this gives.
    pub(super) fn feed(&mut self, mut input: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<(), ScrubError>) -> Result<(), ScrubError> {
        let Self { layers, budget, at, settled } = self;
        budget.came += input.len() as u64;
        let mut all = true;
        while !(input.is_empty() && all) {
            // What is left in them comes out first, so that nothing is half read where nothing more was read.
            let given = if all { input } else { &[] };
            let one = step(layers, budget, given, &mut |new| {
                at.made += new.len() as u64;
                sink(new)
            })?;
            input = &input[one.read..];
            at.came += one.read as u64;
            all = one.all;
            if all && layers.iter().all(|layer| layer.codec.is_settled()) {
                *settled = *at;
            }
        }
        Ok(())
    }

    /// The last place where all that came in had come out, but for less than one symbol.
    pub(super) fn settled(&self) -> Place {
        self.settled
    }

    /// Whether the body may end here: at the end of every coding's own stream, or before anything has come.
    pub(super) fn may_end(&self) -> bool {
        self.layers.iter().all(|layer| layer.codec.may_end())
    }
}

/// What one step of a layer came to.
struct Step {
    read: usize,
    /// It gave out all that it has read, but for what it holds of a symbol or a block.
    all: bool,
}

/// One step of the first layer, and all of the others that follows from it.
fn step(layers: &mut [Layer], budget: &mut Budget, input: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<(), ScrubError>) -> Result<Step, ScrubError> {
    let Some((layer, inner)) = layers.split_first_mut() else {
        sink(input)?;
        return Ok(Step { read: input.len(), all: true });
    };
    let (read, made) = layer.codec.step(input, &mut layer.made)?;
    budget.make(made)?;
    let all = made < layer.made.len();
    let mut new = &layer.made[..made];
    while !new.is_empty() {
        let one = step(inner, budget, new, sink)?;
        new = &new[one.read..];
        // What is left in it comes out without more input.
        let mut more = !one.all;
        while new.is_empty() && more {
            more = !step(inner, budget, new, sink)?.all;
        }
    }
    if read == 0 && made == 0 && !input.is_empty() { Err(ScrubError::Undecodable) } else { Ok(Step { read, all }) }
}

struct Layer {
    codec: Codec,
    made: Zeroizing<Vec<u8>>,
}

impl Layer {
    fn new(coding: Coding) -> Self {
        let codec = match coding {
            Coding::Gzip => Codec::Gzip { inflate: Decompress::new_gzip(15), between: true },
            Coding::Deflate => Codec::Deflate { inflate: None, head: None, ended: false },
            Coding::Brotli => {
                // Strict: RFC 7932 windows only (16 MiB), not the large ones of another format.
                let state = BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
                Codec::Brotli { state: Box::new(state), begun: false, ended: false }
            }
            Coding::Zstd => {
                let mut context = DCtx::create();
                // The only failure is a value out of bounds, and the default limit is then lower than what was asked.
                let _ = context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG));
                Codec::Zstd { context, hint: 0 }
            }
        };
        Self { codec, made: Zeroizing::new(vec![0; STEP]) }
    }
}

enum Codec {
    /// RFC 1952: one or more members. `between`: none is half read.
    Gzip { inflate: Decompress, between: bool },
    /// RFC 1950 by the letter, RFC 1951 as some send it: the first two bytes tell them apart.
    Deflate { inflate: Option<Decompress>, head: Option<u8>, ended: bool },
    /// RFC 7932.
    Brotli { state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>, begun: bool, ended: bool },
    /// RFC 8878: one or more frames. `hint`: how much zstd wants next, 0 between frames.
    Zstd { context: DCtx<'static>, hint: usize },
}

impl Codec {
    /// Decodes some; returns how many bytes were read and made.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), ScrubError> {
        match self {
            Self::Gzip { inflate: decoder, between } => {
                if input.is_empty() && *between {
                    return Ok((0, 0));
                }
                if *between {
                    *decoder = Decompress::new_gzip(15);
                }
                let (read, made, ended) = inflate(decoder, input, out)?;
                *between = ended;
                Ok((read, made))
            }
            Self::Deflate { inflate: decoder, head, ended } => deflate(decoder, head, ended, input, out),
            Self::Brotli { state, begun, ended } => {
                if *ended {
                    return if input.is_empty() { Ok((0, 0)) } else { Err(ScrubError::Undecodable) };
                }
                *begun |= !input.is_empty();
                let (mut left, mut read, mut room, mut made, mut total) = (input.len(), 0, out.len(), 0, 0);
                match BrotliDecompressStream(&mut left, &mut read, input, &mut room, &mut made, out, &mut total, state) {
                    BrotliResult::ResultFailure => return Err(ScrubError::Undecodable),
                    BrotliResult::ResultSuccess => *ended = true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok((read, made))
            }
            Self::Zstd { context, hint } => {
                if input.is_empty() && *hint == 0 {
                    return Ok((0, 0));
                }
                // It would read on into the next block; it is to stop where nothing is half read.
                let wanted = if *hint > ZSTD_BLOCK_HEADER { *hint - ZSTD_BLOCK_HEADER } else { (*hint).max(1) };
                let (mut from, mut to) = (InBuffer::around(&input[..input.len().min(wanted)]), OutBuffer::around(out));
                *hint = context.decompress_stream(&mut to, &mut from).map_err(|_| ScrubError::Undecodable)?;
                Ok((from.pos(), to.pos()))
            }
        }
    }

    /// Whether it holds no content that it has read and not given out, but for less than one symbol. zstd alone
    /// reads whole blocks before it gives anything.
    fn is_settled(&self) -> bool {
        !matches!(self, Self::Zstd { hint, .. } if *hint > ZSTD_BLOCK_HEADER)
    }

    fn may_end(&self) -> bool {
        match self {
            Self::Gzip { between, .. } => *between,
            Self::Deflate { inflate, head, ended } => *ended || (inflate.is_none() && head.is_none()),
            Self::Brotli { begun, ended, .. } => *ended || !begun,
            Self::Zstd { hint, .. } => *hint == 0,
        }
    }
}

/// One step of a decoder: bytes read, bytes made, and whether the stream has ended.
fn inflate(decoder: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<(usize, usize, bool), ScrubError> {
    let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
    let status = decoder.decompress(input, out, FlushDecompress::None).map_err(|_| ScrubError::Undecodable)?;
    let count = |now: u64, before: u64| usize::try_from(now - before).map_err(|_| ScrubError::Undecodable);
    Ok((count(decoder.total_in(), before_in)?, count(decoder.total_out(), before_out)?, status == Status::StreamEnd))
}

fn deflate(
    decoder: &mut Option<Decompress>,
    head: &mut Option<u8>,
    ended: &mut bool,
    input: &[u8],
    out: &mut [u8],
) -> Result<(usize, usize), ScrubError> {
    if *ended {
        return if input.is_empty() { Ok((0, 0)) } else { Err(ScrubError::Undecodable) };
    }
    if let Some(decoder) = decoder {
        let (read, made, end) = inflate(decoder, input, out)?;
        *ended = end;
        return Ok((read, made));
    }
    let Some(&byte) = input.first() else { return Ok((0, 0)) };
    let Some(first) = head.replace(byte) else { return Ok((1, 0)) };
    // RFC 1950 2.2: the method is 8, and the two bytes are a multiple of 31.
    let zlib = first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(byte)).is_multiple_of(31);
    let decoder = decoder.insert(Decompress::new(zlib));
    let (read, made, end) = inflate(decoder, &[first, byte], out)?;
    *ended = end;
    if read == 2 { Ok((1, made)) } else { Err(ScrubError::Undecodable) }
}
