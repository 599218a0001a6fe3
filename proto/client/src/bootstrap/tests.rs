use super::*;
use crate::moment::unix;
use causeway_identity::{ClusterCa, KeyPair};
use causeway_model::{GatewayRole, Health, Locality, PortSet, Revision, ServiceName};
use causeway_wire::ctl::ServedService;
use causeway_wire::token::{JoinFor, JoinToken, TokenCore};

const HOUR: Duration = Duration::from_secs(3600);

fn token(domain: &str, ends: SystemTime, join: JoinFor) -> JoinToken {
    let core = TokenCore {
        id: [1; 8],
        secret: [2; 32],
        cluster: "iad".parse().unwrap(),
        cluster_id: ClusterId::new(7).unwrap(),
        trust_domain: domain.parse().unwrap(),
        root_fingerprint: [3; 32],
        gateways: vec!["127.0.0.1:7443".parse().unwrap()],
        expires_at: unix(ends),
    };
    JoinToken { core, join }
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn config(token: Option<JoinToken>, serve: &[&str]) -> ClientConfig {
    let serve = serve.iter().map(|service| ServedService {
        name: name(service),
        ports: PortSet::default(),
        health: Health::Healthy,
    });
    ClientConfig {
        token,
        state_dir: Some("/state".into()),
        serve: serve.collect(),
        weight: 1,
        ..ClientConfig::default()
    }
}

fn saved(domain: &str, ends: SystemTime) -> Saved {
    let ca = ClusterCa::create(&domain.parse().unwrap(), SystemTime::now() - 100 * HOUR).unwrap();
    let key = KeyPair::generate().unwrap();
    let id = format!("spiffe://{domain}/ns/shop/sa/web").parse().unwrap();
    let chain = ca.sign_svid(&key.csr().unwrap(), &id, ends - HOUR, HOUR).unwrap();
    let known = Known {
        cluster: ClusterFacts {
            name: "iad".parse().unwrap(),
            id: ClusterId::new(7).unwrap(),
            trust_domain: domain.parse().unwrap(),
            locality: Locality { region: "r".to_owned(), zone: "z".to_owned() },
        },
        bundles: vec![ca.bundle()],
        trust: Revision::default(),
        gateways: Vec::new(),
        services: Vec::new(),
        vips: Vec::new(),
    };
    Saved { identity: Some(Svid::new(chain, key).unwrap()), known: Some(known) }
}

fn workload(services: &[&str]) -> JoinFor {
    JoinFor::Workload(services.iter().map(|service| name(service)).collect())
}

#[test]
fn a_token_must_cover_every_service_that_is_served() {
    let now = SystemTime::now();
    let check = |join: JoinFor, serve: &[&str]| {
        let config = config(Some(token("iad.mesh", now + HOUR, join)), serve);
        checks::usable_identity(&config, &Saved::default(), now).map(|svid| svid.is_some())
    };
    assert!(!check(workload(&["web.shop", "pay.shop"]), &["pay.shop"]).unwrap());
    let error = check(workload(&["web.shop"]), &["web.shop", "pay.shop"]).unwrap_err();
    assert_eq!(error.reason(), "token-service");
    assert!(error.to_string().contains("does not allow to serve pay.shop (it allows web.shop)"), "{error}");
    let error = check(JoinFor::Gateway(GatewayRole::Forwarder), &[]).unwrap_err();
    assert_eq!(error.reason(), "token-wrong-kind");
    assert!(error.to_string().contains("is for a forwarder"), "{error}");
}

#[test]
fn an_expired_token_is_told_with_both_times_unless_the_saved_identity_lives() {
    let now = SystemTime::now();
    let config = config(Some(token("iad.mesh", now - HOUR, workload(&[]))), &[]);
    let error = checks::usable_identity(&config, &Saved::default(), now).unwrap_err();
    assert_eq!(error.reason(), "token-expired");
    assert!(error.to_string().contains(&crate::moment::show(unix(now))), "{error}");
    assert!(checks::usable_identity(&config, &saved("iad.mesh", now + HOUR), now).unwrap().is_some());
}

#[test]
fn an_expired_identity_needs_a_token() {
    let now = SystemTime::now();
    let old = saved("iad.mesh", now - HOUR);
    let error = checks::usable_identity(&config(None, &[]), &old, now).unwrap_err();
    assert_eq!(error.reason(), "svid-expired");
    let text = error.to_string();
    assert!(text.contains("/state") && text.contains("causeway token create"), "{text}");
    let with_token = config(Some(token("iad.mesh", now + HOUR, workload(&[]))), &[]);
    assert!(checks::usable_identity(&with_token, &old, now).unwrap().is_none());
    let error = checks::usable_identity(&config(None, &[]), &Saved::default(), now).unwrap_err();
    assert_eq!(error.reason(), "no-token");
}

#[test]
fn a_folder_that_lost_half_its_files_is_not_used() {
    let now = SystemTime::now();
    let half = Saved { known: None, ..saved("iad.mesh", now + HOUR) };
    assert_eq!(checks::usable_identity(&config(None, &[]), &half, now).unwrap_err().reason(), "no-token");
}

#[test]
fn the_state_of_another_cluster_is_refused_with_both_names() {
    let now = SystemTime::now();
    let config = config(Some(token("phx.mesh", now + HOUR, workload(&[]))), &[]);
    let error = checks::same_cluster(&config, saved("iad.mesh", now + HOUR).known.as_ref()).unwrap_err();
    assert_eq!(error.reason(), "state-other-cluster");
    let text = error.to_string();
    assert!(text.contains("iad.mesh") && text.contains("phx.mesh") && text.contains("/state"), "{text}");
    assert!(checks::same_cluster(&config, saved("phx.mesh", now + HOUR).known.as_ref()).is_ok());
}

#[test]
fn too_many_services_are_refused_before_anything_is_sent() {
    let names: Vec<String> = (0..65).map(|n| format!("s{n}.shop")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(checks::services(&config(None, &names)).unwrap_err().reason(), "too-many-services");
    assert!(checks::services(&config(None, &names[..64])).is_ok());
}
