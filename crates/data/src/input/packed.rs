//! Files packed by gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Counted, InputFile};

/// The first byte of a gzip member.
const GZIP_MAGIC: u8 = 0x1f;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// Unpacks what `packed` reads.
    pub(super) fn unpack<'a>(self, packed: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(Gzip { member: Some(GzDecoder::new(packed)) }),
            Self::Zstd => Box::new(Zstd { source: packed, frame: FrameDecoder::new(), within: false }),
        }
    }
}

/// The file itself, or its unpacked contents in a file without a name.
pub(super) fn unpack_to_file(file: File, input: &InputFile, read: &Arc<AtomicU64>) -> io::Result<File> {
    if input.packing == Packing::None {
        return Ok(file);
    }
    let mut unpacked = tempfile::tempfile()?;
    let counted = BufReader::new(Counted { file, read: Arc::clone(read) });
    io::copy(&mut input.packing.unpack(counted), &mut unpacked)?;
    Ok(unpacked)
}

/// A gzip file: members one after the other.
struct Gzip<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            // The member is whole: the file ends, or another one follows.
            match member.get_mut().fill_buf()?.first() {
                None => break,
                Some(&GZIP_MAGIC) => self.member = self.member.take().map(|whole| GzDecoder::new(whole.into_inner())),
                Some(_) => return Err(io::Error::other("bytes that are not gzip's, behind a complete member")),
            }
        }
        Ok(0)
    }
}

/// A zstd file: frames one after the other.
struct Zstd<R: BufRead> {
    source: R,
    frame: FrameDecoder,
    /// Whether a frame has begun that is not yet at its end.
    within: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            while self.within {
                if self.frame.can_collect() > 0 {
                    return self.frame.read(buffer);
                }
                if self.frame.is_finished() {
                    self.within = false;
                } else {
                    let block = BlockDecodingStrategy::UptoBlocks(1);
                    self.frame.decode_blocks(&mut self.source, block).map_err(|error| fault(&error))?;
                }
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.frame.init(&mut self.source) {
                Ok(()) => self.within = true,
                // A frame without data.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(fault(&error)),
            }
        }
    }
}

fn fault(error: &FrameDecoderError) -> io::Error {
    io::Error::other(error.to_string())
}
