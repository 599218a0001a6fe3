use super::*;
use crate::config::{GatewayOptions, load};
use causeway_identity::ClusterCa;
use causeway_model::{ClusterFacts, ClusterId, Locality};
use causeway_wire::token::TokenCore;
use causeway_wire::view::BundleView;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

const HOUR: Duration = Duration::from_secs(3600);

fn config(data_dir: &Path) -> GatewayConfig {
    let options = GatewayOptions {
        cluster: Some("iad".into()),
        region: Some("us-ashburn-1".into()),
        zone: Some("AD-1".into()),
        data_dir: Some(data_dir.display().to_string()),
        listen: vec!["127.0.0.1:0".into()],
        ..GatewayOptions::default()
    };
    GatewayConfig { role: GatewayRole::Forwarder, ..load(None, options).unwrap() }
}

fn token(role: GatewayRole) -> JoinToken {
    let core = TokenCore {
        id: [1; 8],
        secret: [2; 32],
        cluster: "iad".parse().unwrap(),
        cluster_id: ClusterId::new(7).unwrap(),
        trust_domain: "iad.mesh".parse().unwrap(),
        root_fingerprint: [3; 32],
        gateways: Vec::new(),
        expires_at: causeway_runtime::clock::unix_now() + 600,
    };
    JoinToken { core, join: JoinFor::Gateway(role) }
}

fn facts(node: NodeId) -> GatewayFacts {
    GatewayFacts {
        node,
        role: GatewayRole::Forwarder,
        locality: Locality { region: "us-ashburn-1".to_owned(), zone: "AD-1".to_owned() },
        cluster_addrs: vec!["127.0.0.1:7443".parse().unwrap()],
        link_addrs: Vec::new(),
    }
}

/// What the cluster answers to the gateway that has `key`.
fn joined(key: &KeyPair) -> GatewayJoined {
    let trust_domain = "iad.mesh".parse().unwrap();
    let ca = ClusterCa::create(&trust_domain, SystemTime::now()).unwrap();
    let node = NodeId(5);
    let id = SpiffeId::node(&trust_domain, GatewayRole::Forwarder, node);
    GatewayJoined {
        cluster: ClusterFacts {
            name: "iad".parse().unwrap(),
            id: ClusterId::new(7).unwrap(),
            trust_domain: trust_domain.clone(),
            locality: facts(node).locality,
        },
        node,
        chain: ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), HOUR).unwrap(),
        bundle: BundleView { trust_domain, roots: vec![ca.root_der().to_vec()], revoked: Vec::new() },
        gateways: Vec::new(),
        seal_key: None,
    }
}

#[tokio::test]
async fn the_key_is_kept_before_it_asks_and_used_by_every_start_until_one_has_joined() {
    let dir = tempfile::tempdir().unwrap();
    let (data, kept) = (dir.path().join("data"), dir.path().join("data/join-key.der"));
    let config = config(&data);
    let mut keys = Vec::new();
    for _start in 0..2 {
        let files = Files::open(&data).unwrap();
        let token = token(GatewayRole::Forwarder);
        let error = join(&config, &token, facts, &files).await.err().unwrap().to_string();
        assert!(error.contains("no gateway of the token answers"), "{error}");
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        keys.push(files.join_key().unwrap().public_key());
    }
    assert_eq!(keys[0], keys[1]);

    let files = Files::open(&data).unwrap();
    let key = files.join_key().unwrap();
    let answer = joined(&key);
    let node = keep(&config, answer, key, &files).unwrap();
    assert!(!kept.exists(), "the identity has it now");
    let identity = files.load_identity(&node.file.spiffe_id()).unwrap();
    assert_eq!(identity.chain(), node.svid.chain());
    assert_eq!(files.load_node().unwrap().unwrap().node, NodeId(5));
}

#[tokio::test]
async fn a_token_that_cannot_do_leaves_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let files = Files::open(dir.path()).unwrap();
    assert!(join(&config, &token(GatewayRole::Gateway), facts, &files).await.is_err());
    assert!(!dir.path().join("join-key.der").exists());
}

#[test]
fn a_damaged_key_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("join-key.der"), b"no key").unwrap();
    let error = files.join_key().unwrap_err().to_string();
    assert!(error.contains("join-key.der") && error.contains("delete it"), "{error}");
    files.forget_join_key();
    files.join_key().unwrap();
}
