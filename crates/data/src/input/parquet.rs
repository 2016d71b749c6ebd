//! Parquet files: the texts of one column, row by row.

use std::fs::File;
use std::path::Path;
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

/// Reads the documents of column `field`. Null is a fault; what cannot be read is one too, and the rest of its row group
/// is left out.
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
    let opened = guarded(|| SerializedFileReader::new(file.try_clone()?));
    let (reader, file) = match opened {
        Ok(reader) => (reader, Arc::new(file)),
        Err(error) => {
            take(broken(path, 0, &error, "the file is left out"));
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
        if !read_group(&file, metadata.column(column), rows, input, field, row, take) {
            break;
        }
        // A count that lies is far from overflow.
        row = row.saturating_add(rows).min(u64::MAX / 2);
        if input.packing == Packing::None {
            read.fetch_add(input.bytes / groups.max(1) as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Reads the `rows` rows of a group, which stand behind row `row`; whether to go on.
fn read_group(
    file: &Arc<File>,
    chunk: &ColumnChunkMetaData,
    rows: u64,
    input: &InputFile,
    field: &str,
    mut row: u64,
    take: Take,
) -> bool {
    const REST: &str = "the rest of its row group is left out";
    let path = &input.path;
    if let Some(codec) = unknown_codec(chunk) {
        let what = format!("expected texts packed by snappy, gzip or zstd, or not packed, got {codec}");
        return take(Item::Fault(Fault::at_row(path, row + 1, what, "its row group is left out")));
    }
    let mut column = match guarded(|| open(file, chunk, rows as usize)) {
        Ok(column) => column,
        Err(error) => return take(broken(path, row + 1, &error, REST)),
    };
    let whole = chunk.column_descr().max_def_level();
    loop {
        match guarded(|| next(&mut column, whole)) {
            Ok(texts) if texts.is_empty() => return true,
            Ok(texts) => {
                if !take_texts(&texts, input, field, row, take) {
                    return false;
                }
                row += texts.len() as u64;
            }
            Err(error) => return take(broken(path, row + 1, &error, REST)),
        }
    }
}

fn broken(path: &Path, row: u64, error: &ParquetError, outcome: &str) -> Item {
    Item::Fault(Fault::at_row(path, row, format!("expected a Parquet file, got: {error}"), outcome))
}

/// How a column is packed, where that cannot be read.
fn unknown_codec(chunk: &ColumnChunkMetaData) -> Option<String> {
    match chunk.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => None,
        // Without the level.
        other => format!("{other:?}").split('(').next().map(str::to_owned),
    }
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

/// The texts of the next rows, none for null.
fn next(column: &mut Column, whole: i16) -> Result<Vec<Option<ByteArray>>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, _, _) = column.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter();
    // A column without nulls has no levels.
    let texts: Vec<_> = match levels.is_empty() {
        true => values.map(Some).collect(),
        false => levels.iter().map(|level| if *level == whole { values.next() } else { None }).collect(),
    };
    if texts.len() == rows { Ok(texts) } else { Err(ParquetError::General("fewer values than rows".into())) }
}

/// Hands texts on that stand behind row `row`; whether to go on.
fn take_texts(texts: &[Option<ByteArray>], input: &InputFile, field: &str, row: u64, take: Take) -> bool {
    (row + 1..).zip(texts).all(|(row, text)| {
        let what = match text.as_ref().map(|text| std::str::from_utf8(text.data())) {
            Some(Ok(text)) => return take_document(text, take),
            Some(Err(error)) => format!("expected UTF-8, got another byte at {} of the text", error.valid_up_to()),
            None => format!("expected a text in column {field:?}, got null"),
        };
        take(Item::Fault(Fault::at_row(&input.path, row, what, "left out")))
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
