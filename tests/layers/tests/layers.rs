//! The manifests and sources of this workspace against the layer table.

use causeway_test_layers::{CRATES, Workspace, impure_calls, violations};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_edge_is_allowed() {
    let workspace = Workspace::read(&root()).unwrap();
    let edges: usize = workspace.members.iter().map(|member| member.edges.len()).sum();
    assert!(workspace.members.len() >= CRATES.len() && edges > 100, "the manifests were not read");
    let found: Vec<String> = violations(&workspace).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn pure_crates_read_no_clock_and_do_no_io() {
    for row in CRATES.iter().filter(|row| row.pure_core) {
        let found = impure_calls(&root().join(row.folder).join("src")).unwrap();
        assert!(found.is_empty(), "{} is to be pure:\n{}\n", row.package, found.join("\n"));
    }
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for member in Workspace::read(&root()).unwrap().members {
        let manifest = std::fs::read_to_string(root().join(&member.folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let taken =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(taken, Some(true), "{} needs [lints] workspace = true", member.package);
    }
}
