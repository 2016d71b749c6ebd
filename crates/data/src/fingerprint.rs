//! Contents by which cached files are found again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use twox_hash::XxHash3_128;

use crate::DataError;

/// A hash of parts, each with its length: XXH3 of 128 bits, the same on every machine.
pub(crate) struct Fingerprint(XxHash3_128);

impl Fingerprint {
    /// Of something of the kind `kind`.
    pub(crate) fn new(kind: &str) -> Self {
        let mut new = Self(XxHash3_128::with_seed(0));
        new.bytes(kind.as_bytes());
        new
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    /// 32 hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        format!("{:032x}", self.0.finish_128())
    }

    /// Of a file's contents.
    pub(crate) fn of_file(path: &Path) -> Result<Self, DataError> {
        let mut hash = Self::new("file");
        let fault = |reason| DataError::unreadable(path, reason);
        let mut file = File::open(path).map_err(fault)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(fault)? {
                0 => return Ok(hash),
                count => hash.0.write(&buffer[..count]),
            }
        }
    }
}
