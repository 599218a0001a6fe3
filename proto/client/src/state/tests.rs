use super::*;
use causeway_identity::{ClusterCa, KeyPair};
use causeway_model::{ClusterId, Epoch, Health, Locality, NodeId, PortSet, Revision, Revocation, WorkloadId};
use causeway_wire::view::{EndpointView, Offer};
use causeway_wire::{Cid, CidKeys};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

fn ca() -> ClusterCa {
    ClusterCa::create(&"iad.mesh".parse().unwrap(), SystemTime::now()).unwrap()
}

fn svid(ca: &ClusterCa) -> Svid {
    let key = KeyPair::generate().unwrap();
    let id = "spiffe://iad.mesh/ns/shop/sa/web".parse().unwrap();
    let chain = ca.sign_svid(&key.csr().unwrap(), &id, SystemTime::now(), Duration::from_secs(3600)).unwrap();
    Svid::new(chain, key).unwrap()
}

fn known(ca: &ClusterCa) -> Known {
    let id = ClusterId::new(7).unwrap();
    let locality = Locality { region: "us-ashburn-1".to_owned(), zone: "AD-1".to_owned() };
    let cluster = ClusterFacts {
        name: "iad".parse().unwrap(),
        id,
        trust_domain: "iad.mesh".parse().unwrap(),
        locality: locality.clone(),
    };
    let cid: Cid = CidKeys::new(id, [(Epoch(1), [1; 16])]).mint(WorkloadId(u64::MAX), 4).unwrap();
    let endpoint = EndpointView {
        instance: WorkloadId(u64::MAX),
        cid,
        locality: locality.clone(),
        weight: 100,
        health: Health::Healthy,
    };
    let offer = Offer {
        cluster: cluster.clone(),
        handle: None,
        ports: PortSet::try_from(vec!["80/http".parse().unwrap()]).unwrap(),
        identities: vec!["spiffe://iad.mesh/ns/shop/sa/pay".parse().unwrap()],
        healthy: 1,
        total: 1,
        stale_for: Some(3),
        endpoints: vec![endpoint],
    };
    let gateway = GatewayFacts {
        node: NodeId(u64::MAX - 1),
        role: causeway_model::GatewayRole::Gateway,
        locality,
        cluster_addrs: vec!["gw.example.org:7443".parse().unwrap()],
        link_addrs: Vec::new(),
    };
    let services = vec![ServiceView { name: "payments.shop".parse().unwrap(), offers: vec![offer] }];
    let vip = |name: &str, n| (name.parse().unwrap(), causeway_model::Vip::new(n).unwrap());
    let vips = vec![vip("payments.shop", 7), vip("payments.shop@phx", 8)];
    let revoked =
        Revocation { subject: "spiffe://iad.mesh/ns/shop/sa/pay".parse().unwrap(), issued_before: 9 };
    let bundles = vec![ca.bundle().with_revoked(vec![revoked]).unwrap()];
    Known { cluster, bundles, trust: Revision(12), gateways: vec![gateway], services, vips }
}

#[test]
fn what_was_saved_is_read_back_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, path) = (ca(), dir.path().join("state"));
    let (svid, known) = (svid(&ca), known(&ca));
    {
        let (state, saved) = StateDir::open(&path, None).unwrap();
        assert!(saved.identity.is_none() && saved.known.is_none());
        state.save_identity(&svid).unwrap();
        state.save_known(&known).unwrap();
    }
    let (_state, saved) = StateDir::open(&path, None).unwrap();
    assert_eq!(saved.known, Some(known));
    assert_eq!(saved.identity.unwrap().chain(), svid.chain());
    for (file, mode) in [(path.join(IDENTITY), 0o600), (path.join(STATE), 0o600), (path.clone(), 0o700)] {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "{file:?}");
    }
}

#[test]
fn who_left_the_folder_to_another_process_writes_nothing_and_has_its_lock() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), ca());
    let lock = Arc::new(files::lock_dir(dir.path()).unwrap());
    let (state, _) = StateDir::open(dir.path(), Some(lock)).unwrap();
    assert_eq!(StateDir::open(dir.path(), None).unwrap_err().reason(), "dir_in_use");
    state.save_known(&known(&ca)).unwrap();
    let written = std::fs::metadata(dir.path().join(STATE)).unwrap().modified().unwrap();
    state.leave();
    state.save_known(&known(&ca)).unwrap();
    state.save_identity(&svid(&ca)).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join(STATE)).unwrap().modified().unwrap(), written);
    assert!(!dir.path().join(IDENTITY).exists());
}

#[test]
fn a_second_process_is_told_who_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateDir::open(dir.path(), None).unwrap();
    let error = StateDir::open(dir.path(), None).unwrap_err();
    assert_eq!(error.reason(), "dir_in_use");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn a_damaged_file_is_named_with_the_way_out() {
    let ca = ca();
    for (file, cut) in [(IDENTITY, 200), (STATE, 100), (IDENTITY, 0), (STATE, 0)] {
        let dir = tempfile::tempdir().unwrap();
        {
            let (state, _) = StateDir::open(dir.path(), None).unwrap();
            state.save_identity(&svid(&ca)).unwrap();
            state.save_known(&known(&ca)).unwrap();
        }
        let path = dir.path().join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = StateDir::open(dir.path(), None).unwrap_err();
        assert_eq!(error.reason(), "state-damaged");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("delete it"), "{text}");
    }
}

#[test]
fn the_state_of_another_release_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(STATE), r#"{"format":2,"known":{"new":true}}"#).unwrap();
    let error = StateDir::open(dir.path(), None).unwrap_err();
    assert_eq!(error.reason(), "state-format");
    assert!(error.to_string().contains("format 2"), "{error}");
}
