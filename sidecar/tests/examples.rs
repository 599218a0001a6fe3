//! The example configuration is one that a sidecar takes.

use causeway_sidecar::{SidecarConfig, SidecarOptions};
use std::path::Path;

#[test]
fn the_example_configuration_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/sidecar.toml");
    let config = SidecarConfig::load(Some(&path), SidecarOptions::default())
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!config.serve.is_empty() || !config.listen.is_empty());
}
