//! Files packed by gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Counted, InputFile};

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
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
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
