//! Where the binary under test is, and that it is as new as its sources.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What the binary is built from.
const SOURCES: [&str; 6] = ["proto", "registry", "gateway", "sidecar", "cli", "Cargo.lock"];

/// The `causeway` binary: `$CAUSEWAY_BIN`, else the one beside this test's own executable, which is built first if it is missing
/// or older than a source.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CAUSEWAY_BIN").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => built(),
    })
}

fn built() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this executable");
    // TARGET/PROFILE/deps/mesh-HASH
    let profile = own.parent().and_then(Path::parent).expect("a test executable lies in PROFILE/deps");
    let binary = profile.join(format!("causeway{}", std::env::consts::EXE_SUFFIX));
    // several test executables may come here at once: one builds, the others find it built
    let lock = File::create(profile.join(".causeway-test-build")).expect("the profile folder can be written");
    lock.lock().expect("a file lock");
    if !is_fresh(&binary) {
        build(profile);
        assert!(binary.exists(), "cargo build did not make {}", binary.display());
    }
    binary
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/mesh is two levels below the root")
}

fn build(profile: &Path) {
    let name = profile.file_name().and_then(|name| name.to_str()).expect("the profile has a name");
    let name = if name == "debug" { "dev" } else { name };
    let target = profile.parent().expect("the profile lies in the target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(workspace())
        .args([
            "build",
            "--quiet",
            "--package",
            "causeway",
            "--bin",
            "causeway",
            "--profile",
            name,
            "--target-dir",
        ])
        .arg(target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "cargo build -p causeway: {status}");
}

fn is_fresh(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|file| file.modified()) else { return false };
    SOURCES.iter().all(|source| newest(&workspace().join(source)) <= built)
}

/// When something below `path` was last changed; tests are no sources of the binary.
fn newest(path: &Path) -> SystemTime {
    let file = fs::symlink_metadata(path).expect("a source can be read");
    if !file.is_dir() {
        let is_source = path.extension().is_some_and(|kind| kind == "rs" || kind == "toml" || kind == "lock");
        return if is_source { file.modified().expect("a time of change") } else { SystemTime::UNIX_EPOCH };
    }
    let entries =
        fs::read_dir(path).expect("a source folder can be read").map(|entry| entry.expect("an entry").path());
    let sources = entries.filter(|path| path.file_stem().is_none_or(|name| name != "tests"));
    sources.map(|path| newest(&path)).max().unwrap_or(SystemTime::UNIX_EPOCH)
}
