use super::*;
use causeway_model::NodeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    timestamp::from_unix(1_800_000_000)
}

fn ca() -> ClusterCa {
    ClusterCa::create(&"iad.mesh".parse().unwrap(), now()).unwrap()
}

fn gateway(ca: &ClusterCa) -> SpiffeId {
    SpiffeId::gateway(ca.trust_domain(), NodeId(1))
}

#[test]
fn the_root_says_what_it_is() {
    let ca = ca();
    let (_, root) = X509Certificate::from_der(ca.root_der()).unwrap();
    assert_eq!(root.subject().to_string(), "CN=causeway CA iad.mesh");
    assert_eq!(root.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(1));
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    let names = &root.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI("spiffe://iad.mesh")]);
    assert_eq!(root.validity().not_before.timestamp(), 1_800_000_000 - 300);
    assert_eq!(ca.expires(), now() + ROOT_TTL);
    root.verify_signature(None).unwrap();
    let bundle = ca.bundle();
    assert_eq!(TrustBundle::new(bundle.trust_domain.clone(), bundle.roots.clone()).unwrap(), bundle);
    assert_eq!(format!("{ca:?}"), "ClusterCa(TrustDomain(iad.mesh))");
}

#[test]
fn the_default_domain_comes_from_the_key() {
    let cluster: ClusterName = "iad".parse().unwrap();
    let (ca, domain) = ClusterCa::create_with_default_domain(&cluster, now()).unwrap();
    let (_, root) = X509Certificate::from_der(ca.root_der()).unwrap();
    let hash = HEXLOWER.encode(&tls::sha256(root.public_key().raw));
    assert_eq!(domain.as_str(), format!("iad-{}.mesh", &hash[..12]));
    assert_eq!(ca.trust_domain(), &domain);
}

#[test]
fn a_long_trust_domain_still_makes_a_root() {
    let domain: TrustDomain = "a".repeat(255).parse().unwrap();
    assert_eq!(ClusterCa::create(&domain, now()).unwrap().trust_domain(), &domain);
}

#[test]
fn an_svid_has_the_given_name_and_nothing_of_the_request() {
    let ca = ca();
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    asked.distinguished_name.push(DnType::CommonName, "root");
    let csr = asked.serialize_request(&crate::key::Signer(&key)).unwrap();
    let chain = ca.sign_svid(csr.der(), &gateway(&ca), now(), HOUR).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI(&gateway(&ca).to_string())]);
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    assert_eq!(leaf.raw_serial().len(), 16);
    assert_eq!(leaf.public_key().raw, key.public_key());
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(life, 3600 + 300);
    let again = ca.sign_svid(csr.der(), &gateway(&ca), now(), HOUR).unwrap();
    assert_ne!(X509Certificate::from_der(&again[0]).unwrap().1.raw_serial(), leaf.raw_serial());
}

#[test]
fn foreign_ids_are_refused() {
    let ca = ca();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    for id in ["spiffe://phx.mesh/ns/a/sa/b", "spiffe://iad.mesh"] {
        let error = ca.sign_svid(&csr, &id.parse().unwrap(), now(), HOUR).unwrap_err();
        assert_eq!(error.reason(), "foreign-id");
    }
}

#[test]
fn requests_must_prove_a_p256_key() {
    let ca = ca();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let refusal = |csr: &[u8]| ca.sign_svid(csr, &gateway(&ca), now(), HOUR).unwrap_err().to_string();
    let mut forged = csr.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(refusal(&forged).contains("signature"));
    let mut longer = csr.clone();
    longer.push(0);
    assert!(refusal(&longer).contains("follow"));
    assert!(refusal(&vec![0; 9000]).contains("9000 bytes"));
    assert!(refusal(b"").contains("PKCS#10"));
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::default().serialize_request(&p384).unwrap();
    assert!(refusal(other.der()).contains("P-256"));
}

#[test]
fn nothing_outlives_the_root() {
    let ca = ca();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let late = now() + ROOT_TTL - HOUR;
    let chain = ca.sign_svid(&csr, &gateway(&ca), late, 24 * HOUR).unwrap();
    assert_eq!(Facts::parse(&chain[0]).unwrap().not_after, ca.expires());
    for (when, ttl) in [(ca.expires(), HOUR), (now(), Duration::ZERO)] {
        assert_eq!(ca.sign_svid(&csr, &gateway(&ca), when, ttl).unwrap_err().reason(), "bad-lifetime");
    }
    let never = ClusterCa::create(ca.trust_domain(), timestamp::from_unix(0)).unwrap_err();
    assert_eq!(never.reason(), "bad-lifetime");
    let absurd = ca.sign_svid(&csr, &gateway(&ca), now(), Duration::MAX).unwrap_err();
    assert_eq!(absurd.reason(), "bad-lifetime");
}

#[test]
fn a_stored_ca_signs_again() {
    let ca = ca();
    let again = ClusterCa::from_parts(ca.root_der(), &ca.export_key()).unwrap();
    assert_eq!((again.trust_domain(), again.expires()), (ca.trust_domain(), ca.expires()));
    let other = KeyPair::generate().unwrap();
    let error = ClusterCa::from_parts(ca.root_der(), &other.pkcs8()).unwrap_err();
    assert_eq!(error.reason(), "key-mismatch");
    let leaf = again.sign_svid(&other.csr().unwrap(), &gateway(&ca), now(), HOUR).unwrap();
    let error = ClusterCa::from_parts(&leaf[0], &other.pkcs8()).unwrap_err();
    assert!(error.to_string().contains("not a CA"), "{error}");
}

#[test]
fn web_names_are_checked() {
    let ca = ca();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let sign = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ca.sign_web(&csr, &names, now(), HOUR)
    };
    let chain = sign(&["localhost", "admin.iad.example", "::1", "10.0.0.1"]).unwrap();
    assert!(Facts::parse(&chain[0]).unwrap().svid().is_err_and(|e| e.contains("0 URI names")));
    for bad in [&[][..], &["a b"], &["spiffe://iad.mesh/x"], &["host:443"], &[""], &["a"; 65]] {
        assert_eq!(sign(bad).unwrap_err().reason(), "bad-web-name", "{bad:?}");
    }
}
