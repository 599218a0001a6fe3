use super::*;
use crate::links::introduction::tests::{facts, gateway};
use causeway_identity::ClusterCa;
use causeway_wire::view::BundleView;
use std::time::SystemTime;

const KEY: [u8; 32] = [9; 32];

fn token_and_answer() -> (TokenCore, Paired) {
    let cluster = facts("phx", 2);
    let root = ClusterCa::create(&cluster.trust_domain, SystemTime::now()).unwrap().root_der().to_vec();
    let core = TokenCore {
        id: [1; 8],
        secret: [2; 32],
        cluster: cluster.name.clone(),
        cluster_id: cluster.id,
        trust_domain: cluster.trust_domain.clone(),
        root_fingerprint: fingerprint(&root),
        gateways: vec!["192.0.2.1:7443".parse().unwrap()],
        expires_at: 1000,
    };
    let bundle =
        BundleView { trust_domain: cluster.trust_domain.clone(), roots: vec![root], revoked: Vec::new() };
    let told = Introduction { cluster, bundle, gateways: vec![gateway(1)] };
    let proof = pair_proof(PairSide::Inviting, &core.verifier(), &KEY, &told).unwrap();
    (core, Paired { proof, introduction: told, key: [5; 32] })
}

fn proved(core: &TokenCore, mut paired: Paired, change: impl FnOnce(&mut Introduction)) -> Paired {
    change(&mut paired.introduction);
    paired.proof = pair_proof(PairSide::Inviting, &core.verifier(), &KEY, &paired.introduction).unwrap();
    paired
}

#[test]
fn the_cluster_of_the_token_is_believed() {
    let (core, paired) = token_and_answer();
    judge(&core, &KEY, &paired).unwrap();
}

#[test]
fn an_answer_without_the_secret_or_from_another_session_is_not_believed() {
    let (core, paired) = token_and_answer();
    assert!(judge(&core, &[8; 32], &paired).unwrap_err().to_string().contains("did not prove"));
    let mut changed = paired.clone();
    changed.introduction.gateways[0].node = NodeId(66);
    assert!(judge(&core, &KEY, &changed).unwrap_err().to_string().contains("did not prove"));
    let mut mirrored = paired;
    mirrored.proof = pair_proof(PairSide::Accepting, &core.verifier(), &KEY, &mirrored.introduction).unwrap();
    assert!(judge(&core, &KEY, &mirrored).unwrap_err().to_string().contains("did not prove"));
}

#[test]
fn whoever_is_not_what_the_token_says_is_not_believed() {
    let (core, paired) = token_and_answer();
    let other = proved(&core, paired.clone(), |told| told.cluster.id = 77.try_into().unwrap());
    assert!(judge(&core, &KEY, &other).unwrap_err().to_string().contains("make a new token"));
    let another = ClusterCa::create(&core.trust_domain, SystemTime::now()).unwrap().root_der().to_vec();
    let rerooted = proved(&core, paired.clone(), |told| told.bundle.roots = vec![another]);
    assert!(judge(&core, &KEY, &rerooted).unwrap_err().to_string().contains("lacks the root"));
    let empty = proved(&core, paired, |told| told.gateways.clear());
    assert!(judge(&core, &KEY, &empty).unwrap_err().to_string().contains("0 gateways"));
}
