//! Parquet files: the texts of one column, row by row.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{SerializedFileReader, SerializedPageReader};

use super::{Fault, InputFile, Item, Packing, Take, take_document};
use crate::DataError;
use crate::guarded;

/// Rows that are read at once.
const ROWS: usize = 256;
/// A page unpacks to at most so much.
const MOST_PAGE: u64 = 1 << 30;

/// Reads the documents of column `field`. Null is no document; what cannot be read is a fault, and the rest of its row
/// group is left out.
///
/// # Errors
/// A readable file without such a column of texts.
pub(super) fn read(
    file: File,
    input: &InputFile,
    field: &str,
    read: &Arc<AtomicU64>,
    take: Take,
) -> Result<(), DataError> {
    let path = &input.path;
    let broken = |row, error: &dyn std::fmt::Display| {
        Item::Fault(Fault::at_row(path, row, format!("expected a Parquet file, got: {error}; the rest is left out")))
    };
    let opened = guarded(|| SerializedFileReader::new(file.try_clone()?));
    let (reader, file) = match opened {
        Ok(reader) => (reader, Arc::new(file)),
        Err(error) => {
            take(broken(0, &error));
            return Ok(());
        }
    };
    let column =
        column(&reader, field).map_err(|got| DataError::Column { path: path.clone(), field: field.into(), got })?;
    let groups = reader.metadata().num_row_groups();
    let mut row = 0;
    for group in 0..groups {
        let metadata = reader.metadata().row_group(group);
        let rows = metadata.num_rows().max(0) as u64;
        let chunk = metadata.column(column);
        let mut texts = Ok(());
        let opened = guarded(|| open(&file, chunk, rows as usize));
        match opened {
            Ok(mut column) => loop {
                match guarded(|| next(&mut column)) {
                    Ok((0, _)) => break,
                    Ok((rows, values)) => {
                        row += rows as u64;
                        if !take_values(&values, input, row, take) {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        texts = Err(error);
                        break;
                    }
                }
            },
            Err(error) => texts = Err(error),
        }
        if let Err(error) = texts
            && !take(broken(row + 1, &error))
        {
            return Ok(());
        }
        if input.packing == Packing::None {
            read.fetch_add(input.bytes / groups.max(1) as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

type Column = ColumnReaderImpl<ByteArrayType>;

/// The index of the column of texts, or what is there instead.
fn column(reader: &SerializedFileReader<File>, field: &str) -> std::result::Result<usize, String> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let names = || {
        let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        names.join(", ")
    };
    let Some(index) = schema.columns().iter().position(|column| column.path().string() == field) else {
        return Err(format!("the columns {}", names()));
    };
    let column = schema.column(index);
    if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() > 0 {
        return Err(format!(
            "a column of {} in {}",
            column.physical_type(),
            if column.max_rep_level() > 0 { "lists" } else { "rows" }
        ));
    }
    Ok(index)
}

fn open(file: &Arc<File>, chunk: &ColumnChunkMetaData, rows: usize) -> Result<Column> {
    let zstd = matches!(chunk.compression(), Compression::ZSTD(_));
    // The crate has no zstd without C: pages come packed, and are unpacked here.
    let plain = match zstd {
        true => chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?,
        false => chunk.clone(),
    };
    let pages = SerializedPageReader::new(Arc::clone(file), &plain, rows, None)?;
    let pages: Box<dyn PageReader> = if zstd { Box::new(ZstdPages { pages }) } else { Box::new(pages) };
    let column = parquet::column::reader::get_column_reader(chunk.column_descr_ptr(), pages);
    Ok(get_typed_column_reader(column))
}

/// The next rows: how many, and the values that are not null.
fn next(column: &mut Column) -> Result<(usize, Vec<ByteArray>)> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, _, _) = column.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    Ok((rows, values))
}

/// Hands texts on that end at row `row`; whether to go on.
fn take_values(values: &[ByteArray], input: &InputFile, row: u64, take: Take) -> bool {
    values.iter().all(|value| match std::str::from_utf8(value.data()) {
        Ok(text) => take_document(text, take),
        Err(error) => {
            let what = format!(
                "expected UTF-8, got another byte at {} of a text up to this row; left out",
                error.valid_up_to()
            );
            take(Item::Fault(Fault::at_row(&input.path, row, what)))
        }
    })
}

/// Runs a part of the Parquet crate, which panics on some files that lie.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded::guarded(run).unwrap_or_else(|| Err(ParquetError::General("contradicting contents".into())))
}

/// Pages whose contents are packed by zstd.
struct ZstdPages {
    pages: SerializedPageReader<File>,
}

impl Iterator for ZstdPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ZstdPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.pages.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = unpack(buf, 0)?.into(),
            Page::DataPageV2 { buf, is_compressed, rep_levels_byte_len, def_levels_byte_len, .. } => {
                if *is_compressed {
                    // Levels lie in front of the values, unpacked.
                    let levels = rep_levels_byte_len.saturating_add(*def_levels_byte_len);
                    *buf = unpack(buf, levels as usize)?.into();
                }
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

/// `page` with everything behind its first `plain` bytes unpacked.
fn unpack(page: &[u8], plain: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let Some((plain, packed)) = page.split_at_checked(plain) else {
        return Err(ParquetError::General("levels beyond the end of their page".into()));
    };
    let mut whole = plain.to_vec();
    Packing::Zstd.unpack(packed).take(MOST_PAGE).read_to_end(&mut whole)?;
    Ok(whole)
}
