//! `evenkeel export`: a model in Hugging Face's layout, in another dtype, in files of a size.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use evenkeel_train::{
    checkpoint,
    export::{ExportOptions, Exported, export},
    tensor_file::StoredDtype,
};

use crate::{
    Outcome,
    output::{self, count, size},
    progress::bar,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: evenkeel export --model runs/first --out first-bf16 --dtype bf16")]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors, or a run folder: its best checkpoint
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// New folder for config.json, the weights and, where there is one, the tokenizer
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How the weights are stored
    #[arg(long, default_value = "f32", value_parser = dtypes())]
    dtype: StoredDtype,
    /// Bytes of weights in one file, at most, e.g. 500MB or 2GiB, unless a single tensor has more; more go into several files
    /// with an index
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    max_shard_size: ByteSize,
}

fn dtypes() -> impl TypedValueParser<Value = StoredDtype> {
    PossibleValuesParser::new(StoredDtype::NAMES).map(|name| StoredDtype::named(&name).unwrap_or(StoredDtype::F32))
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { model, out, dtype, max_shard_size: ByteSize(max_shard_bytes) } = arguments;
    let folder = checkpoint::resolve(&model)?;
    let bar = bar(0, "writing [{bar:32}] {bytes}/{total_bytes}, {eta} left");
    let written = export(&folder, &out, ExportOptions { dtype, max_shard_bytes }, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let Exported { parameters, bytes, files } = written?;
    let of = if files == 1 { String::new() } else { format!(" in {files} files") };
    output::line(&format!("{}: {} as {}{of}", folder.display(), count(parameters as f64), dtype.name()));
    output::line(&format!("wrote {} ({})", out.display(), size(bytes)));
    Ok(())
}
