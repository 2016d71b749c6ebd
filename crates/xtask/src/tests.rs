//! All tests, and a closing count of them by what they ran on.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::cargo;

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

/// Runs every test of the workspace.
pub(crate) fn run_all(adapter: &str) -> Result<(), String> {
    println!("$ cargo test --workspace --no-fail-fast");
    let mut child = cargo(&["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo test: cannot be started: {error}"))?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            count.read(&line);
        }
    }
    let status = child.wait().map_err(|error| format!("cargo test: {error}"))?;
    println!("\nadapter: {adapter}");
    for (number, (_, place)) in count.places.iter().zip(PLACES) {
        println!("{number} tests {place}");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    match (status.success(), count.passed) {
        (true, 1..) => Ok(()),
        (true, _) => Err("tests: expected some to run, got none".to_owned()),
        (false, _) => Err(format!("cargo test: expected success, got {status}")),
    }
}
