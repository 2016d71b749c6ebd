//! Which files a path, a folder or a pattern stands for.

use std::fs;
use std::path::{Path, PathBuf};

use super::Packing;
use crate::DataError;
use crate::prepared::{INDEX_FILE, is_unfinished};

/// How a file holds text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A document as it stands.
    Plain,
    /// An object in JSON on each line, a document each.
    JsonLines,
    /// A table with a document in each row.
    Parquet,
}

/// A file to read text from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) packing: Packing,
    /// Its length.
    pub(crate) bytes: u64,
}

/// What paths stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inputs {
    /// Files of text, in order.
    Texts(Vec<InputFile>),
    /// Token shards, in order.
    Shards(Vec<PathBuf>),
    /// A folder that `evenkeel data prepare` made.
    Prepared(PathBuf),
}

/// The files that paths, folders and patterns stand for, in their order; those of a folder or pattern by name.
///
/// # Errors
/// A path that is missing or no file, a folder or pattern without files, a folder in which a preparation is not finished,
/// text beside shards.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Inputs, DataError> {
    if let [folder] = paths
        && folder.join(INDEX_FILE).is_file()
    {
        return Ok(Inputs::Prepared(folder.clone()));
    }
    let mut files = Vec::new();
    for path in paths {
        expand(path, &mut files)?;
    }
    let shard = files.iter().find(|path| is_shard(path)).cloned();
    let text = files.iter().find(|path| !is_shard(path));
    match (text, shard) {
        (Some(text), Some(shard)) => Err(DataError::Mixed { text: text.display().to_string(), shard }),
        (None, Some(_)) => Ok(Inputs::Shards(files)),
        _ => files.into_iter().map(InputFile::of).collect::<Result<_, _>>().map(Inputs::Texts),
    }
}

impl InputFile {
    fn of(path: PathBuf) -> Result<Self, DataError> {
        let metadata = fs::metadata(&path).map_err(|reason| DataError::unreadable(&path, reason))?;
        if !metadata.is_file() {
            return Err(DataError::NotAFile { path, what: "a pipe or a device" });
        }
        let (format, packing) = kind(&path).unwrap_or((Format::Plain, Packing::None));
        Ok(Self { path, format, packing, bytes: metadata.len() })
    }

    /// Whether its bytes are the text.
    pub(crate) fn is_bare(&self) -> bool {
        (self.format, self.packing) == (Format::Plain, Packing::None)
    }
}

fn expand(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let before = files.len();
            list(path, files)?;
            if files.len() == before {
                return Err(DataError::NoFiles { path: path.into(), what: "in this folder" });
            }
            Ok(())
        }
        Ok(_) => {
            files.push(path.into());
            Ok(())
        }
        Err(_) if path.to_str().is_some_and(|text| text.contains(['*', '?', '['])) => expand_pattern(path, files),
        Err(reason) => Err(DataError::unreadable(path, reason)),
    }
}

fn expand_pattern(pattern: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let text = pattern.to_str().unwrap_or_default();
    let found = glob::glob(text).map_err(|error| DataError::Pattern { path: pattern.into(), reason: error.msg })?;
    let before = files.len();
    for path in found {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            DataError::unreadable(&path, error.into())
        })?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.len() == before {
        return Err(DataError::NoFiles { path: pattern.into(), what: "by this pattern" });
    }
    Ok(())
}

/// The files of a folder and of those inside that have the name of a format, sorted; hidden ones are left out.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    if is_unfinished(folder) {
        return Err(DataError::Unfinished { path: folder.into() });
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(|reason| DataError::unreadable(folder, reason))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link to a folder could lead back up.
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // In a folder, JSON on its own is about the data.
        let about = extension(&path).as_deref() == Some("json");
        if hidden || about {
            continue;
        }
        if folder {
            list(&path, files)?;
        } else if is_shard(&path) || kind(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// Format and packing by the name; none for another name.
fn kind(path: &Path) -> Option<(Format, Packing)> {
    let outer = extension(path)?;
    let packing = match &*outer {
        "gz" => Packing::Gzip,
        "zst" => Packing::Zstd,
        _ => Packing::None,
    };
    let inner = if packing == Packing::None { Some(outer) } else { extension(&path.with_extension("")) };
    let format = match inner.as_deref() {
        Some("jsonl" | "ndjson" | "json") => Format::JsonLines,
        Some("parquet") => Format::Parquet,
        Some("txt" | "md") => Format::Plain,
        // A packed file of another name is text, as a bare one that is named by itself.
        _ if packing != Packing::None => Format::Plain,
        _ => return None,
    };
    Some((format, packing))
}

/// Whether a path names a token shard: the extension says so, in small or capital letters.
pub(crate) fn is_shard(path: &Path) -> bool {
    extension(path).as_deref() == Some("bin")
}

fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase)
}
