//! `cargo xtask new-kernel NAME`: the two files of a kernel and its line in the list.

use std::{fs, path::Path};

const WGSL: &str = include_str!("templates/kernel.wgsl");
const CARD: &str = include_str!("templates/kernel.rs.txt");
/// What the list of kernels in `shaders/lib.rs` begins with.
const LIST: &str = "$each! {\n";

/// Writes a kernel that doubles its input: it passes the harness from the first moment.
pub(crate) fn write(root: &Path, name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        return Err(format!("kernel name: expected lower-case letters, digits and _, got {name}"));
    }
    let shaders = root.join("shaders");
    for (suffix, template) in [("wgsl", WGSL), ("rs", CARD)] {
        let path = shaders.join(format!("{name}.{suffix}"));
        if path.exists() {
            return Err(format!("{}: expected a new kernel, got an existing file", path.display()));
        }
        fs::write(&path, template.replace("KERNEL", name)).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    list(&shaders.join("lib.rs"), name)
}

/// Adds the kernel to `kernels!` in alphabetical order.
fn list(path: &Path, name: &str) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    let start = text.find(LIST).ok_or_else(|| fault(&"expected a kernels! list, got none"))?;
    let body = start + LIST.len();
    let end = body + text[body..].find("        }").ok_or_else(|| fault(&"expected the end of kernels!, got none"))?;
    let mut names: Vec<&str> = text[body..end].split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    names.push(name);
    names.sort_unstable();
    let list: String = names.iter().map(|name| format!("            {name},\n")).collect();
    fs::write(path, format!("{}{list}{}", &text[..body], &text[end..])).map_err(|error| fault(&error))?;
    println!("listed {name} in {}", path.display());
    Ok(())
}
