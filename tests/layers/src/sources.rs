//! What a manifest cannot tell: the standard library has clocks, sockets, files and threads too.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Calls and types of the standard library that a pure crate does not use outside its tests.
pub const IMPURE_CALLS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::fs",
    "std::env::",
    "std::process",
    "std::thread",
];

/// The lines of the Rust sources under `folder` that use one of [`IMPURE_CALLS`], as `path:line: text`. Comments do not
/// count, nor does a file `tests.rs`, nor what follows `#[cfg(test)]` at the start of a line.
///
/// # Errors
/// If a file or folder cannot be read.
pub fn impure_calls(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for path in rust_files(folder)? {
        let text = fs::read_to_string(&path)?;
        let code = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        for (number, line) in code {
            let line = line.split("//").next().unwrap_or_default();
            if IMPURE_CALLS.iter().any(|call| line.contains(call)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    Ok(found)
}

fn rust_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_found_in_code_and_not_in_comments_or_tests() {
        let folder = tempfile::tempdir().unwrap();
        let source = "//! never Instant::now\nfn f() {\n    let t = Instant::now(); // why\n}\n#[cfg(test)]\nuse std::fs;\n";
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/core.rs"), source).unwrap();
        fs::write(folder.path().join("tests.rs"), "use std::fs;").unwrap();
        let found = impure_calls(folder.path()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("core.rs:3: let t = Instant::now();"), "{found:?}");
    }
}
