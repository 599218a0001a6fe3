//! The example configuration is one that a gateway takes.

use causeway_gateway::config::{GatewayOptions, load};
use std::path::Path;

#[test]
fn the_example_configuration_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/gateway.toml");
    let config = load(Some(&path), GatewayOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.cluster.as_str(), "iad");
    assert_eq!(config.advertise.len(), 2);
}
