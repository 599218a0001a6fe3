//! Tests that a machine cannot run say so by name.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that the part `name` of the tests was not run, and `why`: on standard error, past the capture of the test runner, and as a
/// line of the file that `CAUSEWAY_SKIPPED` names, from which a summary can be printed.
pub fn skip(name: &str, why: &str) {
    let line = format!("SKIPPED {name}: {why}\n");
    std::io::stderr().lock().write_all(line.as_bytes()).expect("standard error takes a line");
    if let Some(path) = std::env::var_os("CAUSEWAY_SKIPPED").filter(|path| !path.is_empty()) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file of $CAUSEWAY_SKIPPED takes a line");
    }
}
