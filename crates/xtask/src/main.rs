//! Project tasks: `cargo xtask check | test | swiftshader | new-kernel NAME | docs`.

mod adapter;
mod new_kernel;
mod swiftshader;
mod tests;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

const USAGE: &str = "\
cargo xtask check            formatting, clippy, unit tests that need no adapter
cargo xtask test             everything CI runs; installs a software Vulkan driver where there is none and it may, and
                             unpacks a second one below target/ for the kernels
cargo xtask swiftshader      the kernels on that second driver alone
cargo xtask new-kernel NAME  writes shaders/NAME.wgsl and shaders/NAME.rs and lists the kernel
cargo xtask docs             builds the documentation, warnings denied";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["check"] => check(),
        ["test"] => test(),
        ["swiftshader"] => tests::run_on_swiftshader(),
        ["new-kernel", name] => new_kernel::write(&root(), name),
        ["docs"] => docs(),
        _ => Err(format!("usage:\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(PathBuf::from).unwrap_or(manifest)
}

/// Cargo in the workspace's root.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command, saying what it is.
fn run(mut command: Command) -> Result<(), String> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = format!("{} {}", command.get_program().to_string_lossy(), words.join(" "));
    println!("$ {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line}: expected success, got {status}")),
        Err(error) => Err(format!("{line}: cannot be started: {error}")),
    }
}

fn lint() -> Result<(), String> {
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(format_kernels()?)?;
    run(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Cards are declared by a macro, where `cargo fmt` does not look for files.
fn format_kernels() -> Result<Command, String> {
    let folder = root().join("shaders");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut cards: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    cards.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut command = Command::new("rustfmt");
    command.args(["--edition", "2024", "--check"]).args(cards).current_dir(root());
    Ok(command)
}

fn check() -> Result<(), String> {
    lint()?;
    run(cargo(&["test", "--workspace", "--lib", "--exclude", "evenkeel-gpu"]))
}

fn test() -> Result<(), String> {
    let adapter = adapter::find_or_install()?;
    lint()?;
    docs()?;
    tests::run_all(&adapter)
}

fn docs() -> Result<(), String> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--exclude", "evenkeel-cli"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}
