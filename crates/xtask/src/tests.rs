//! All tests, and a closing count of them by what they ran on.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::{
    cargo,
    swiftshader::{self, Driver},
};

/// Parts of test names by what the test runs on; the rest runs on neither.
const PLACES: [(&str, &str); 2] = [("gpu", "on the adapter"), ("cpu", "on the CPU executor")];

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    places: [usize; PLACES.len()],
}

impl Count {
    /// Counts a line such as `test grads::matmul_gpu ... ok`.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        let Some((name, result)) = rest.rsplit_once(" ... ") else { return };
        match result.trim() {
            "ok" => self.passed += 1,
            "FAILED" => self.failed += 1,
            _ => return,
        }
        for (count, (part, _)) in self.places.iter_mut().zip(PLACES) {
            *count += usize::from(name.split([':', '_', ' ']).any(|word| word == part));
        }
    }
}

/// Runs every test of the workspace, then the kernels once more on SwiftShader, where that can be had.
pub(crate) fn run_all(adapter: &str) -> Result<(), String> {
    let mut count = Count::default();
    let first = run(cargo(&["test", "--workspace", "--no-fail-fast"]), &mut count);
    let mut wide = Count::default();
    let widened = if adapter.contains("llvmpipe") { with_wide_vectors(&mut wide) } else { Ok(()) };
    let mut second = Count::default();
    let (outcome, line) = match find_swiftshader() {
        Ok(driver) => (on(&driver, &mut second), format!("{} kernels on {}", second.passed, driver.adapter)),
        Err(reason) => (Ok(()), format!("kernels on SwiftShader: skipped, {reason}")),
    };
    println!("\nadapter: {adapter}");
    for (number, (_, place)) in count.places.iter().zip(PLACES) {
        println!("{number} tests {place}");
    }
    println!("{} kernels and models on lavapipe with 512-bit vectors", wide.passed);
    println!("{line}");
    let sum = |of: fn(&Count) -> usize| [&count, &wide, &second].map(of).iter().sum::<usize>();
    println!("{} passed, {} failed", sum(|count| count.passed), sum(|count| count.failed));
    first.and(widened).and(outcome)
}

/// Runs the kernels on SwiftShader, and nothing else.
pub(crate) fn run_on_swiftshader() -> Result<(), String> {
    on(&find_swiftshader()?, &mut Count::default())
}

fn find_swiftshader() -> Result<Driver, String> {
    // This program runs from the target folder's `debug`.
    let program = std::env::current_exe().map_err(|error| format!("target folder: {error}"))?;
    let target = program.ancestors().nth(2).ok_or("target folder: expected this program in target/debug")?;
    swiftshader::find_or_download(target)
}

/// Runs kernels and models in subgroups of 16 lanes, which have attention kernels of their own: what a program gets that
/// sets its environment by `evenkeel_gpu::prepare_environment` on a processor that computes 512 bits at once.
fn with_wide_vectors(count: &mut Count) -> Result<(), String> {
    let mut command =
        cargo(&["test", "--workspace", "--no-fail-fast", "--test", "kernels", "--test", "mixed", "--test", "model"]);
    command.env("LP_NATIVE_VECTOR_WIDTH", "512");
    run(command, count)
}

/// With the whole workspace's features, as all tests are built: nothing is compiled twice.
fn on(driver: &Driver, count: &mut Count) -> Result<(), String> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--test", "kernels"]);
    command.env("VK_DRIVER_FILES", &driver.manifest).env_remove("EVENKEEL_ADAPTER");
    println!("on {}", driver.adapter);
    run(command, count)
}

/// Runs tests, counting them as they go by.
fn run(mut command: Command, count: &mut Count) -> Result<(), String> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = format!("cargo {}", words.join(" "));
    println!("$ {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{line}: cannot be started: {error}"))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            count.read(&line);
        }
    }
    let status = child.wait().map_err(|error| format!("{line}: {error}"))?;
    match (status.success(), count.passed) {
        (true, 1..) => Ok(()),
        (true, _) => Err(format!("{line}: expected some tests to run, got none")),
        (false, _) => Err(format!("{line}: expected success, got {status}")),
    }
}
