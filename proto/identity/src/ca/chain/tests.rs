use super::*;
use crate::{
    CaKey, ClusterCa, KeyPair, MAX_CERTIFICATE, OperatorCa, Svid, Usage, certificate_pem, verify_chain,
};
use causeway_model::{Revocation, RevokedSubject, SpiffeId};
use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    timestamp::from_unix(1_800_000_000)
}

fn domain() -> TrustDomain {
    "iad.mesh".parse().unwrap()
}

/// A CA certificate in the making: what OpenSSL would write, with what a test changes.
struct Made {
    der: Vec<u8>,
    key: rcgen::KeyPair,
}

fn params(name: &str, path: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(path);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = timestamp::to_date(now() - DAY).unwrap();
    params.not_after = timestamp::to_date(now() + 365 * DAY).unwrap();
    params
}

fn root_with(edit: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = params("Root", BasicConstraints::Unconstrained);
    edit(&mut params);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    Made { der: params.self_signed(&key).unwrap().der().to_vec(), key }
}

fn root() -> Made {
    root_with(|_| {})
}

impl Made {
    fn sign_for(&self, key: rcgen::KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params("Mesh CA", BasicConstraints::Constrained(0));
        edit(&mut params);
        let issuer = CertificateDer::from(self.der.as_slice());
        let issuer = Issuer::from_ca_cert_der(&issuer, &self.key).unwrap();
        Self { der: params.signed_by(&key, &issuer).unwrap().der().to_vec(), key }
    }

    fn sign(&self, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        self.sign_for(rcgen::KeyPair::generate().unwrap(), edit)
    }

    fn key(&self) -> CaKey {
        CaKey::from_der(&self.key.serialize_der()).unwrap()
    }

    fn key_pem(&self) -> String {
        let key = BASE64.encode(&self.key.serialize_der());
        format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
    }
}

fn build(chain: &[&Made], root: &Made) -> Result<ClusterCa, IdentityError> {
    let ders = chain.iter().map(|made| made.der.clone()).collect();
    ClusterCa::from_chain(&domain(), ders, chain.first().unwrap_or(&root).key(), root.der.clone(), now())
}

fn cause(result: Result<ClusterCa, IdentityError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "bad-ca-chain", "{error}");
    error.to_string()
}

fn svid(ca: &ClusterCa) -> Svid {
    let key = KeyPair::generate().unwrap();
    let id: SpiffeId = "spiffe://iad.mesh/ns/a/sa/b".parse().unwrap();
    Svid::new(ca.sign_svid(&key.csr().unwrap(), &id, now(), DAY).unwrap(), key).unwrap()
}

fn verdict(bundle: crate::TrustBundle, chain: &[CertificateDer<'_>]) -> &'static str {
    let store = crate::BundleStore::new();
    store.set(bundle).unwrap();
    verify_chain(&store, chain, Usage::Server, now()).map_or_else(|e| e.reason(), |_| "ok")
}

#[test]
fn svids_of_each_algorithm_carry_the_intermediates() {
    let root = root();
    let policy = root.sign(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.distinguished_name.push(DnType::CommonName, "Policy CA");
    });
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let signer = policy.sign_for(rcgen::KeyPair::generate_for(algorithm).unwrap(), |_| {});
        let ca = build(&[&signer, &policy], &root).unwrap();
        let svid = svid(&ca);
        assert_eq!(svid.chain()[1..], [signer.der.clone(), policy.der.clone()].map(CertificateDer::from));
        assert_eq!(verdict(ca.bundle(), svid.chain()), "ok");
        assert_eq!(svid.root_fingerprint(&ca.bundle()), Some(ca.root_fingerprint()));
        assert_eq!(ca.intermediates().len(), 2);
        let stored = CaKey::from_der(&ca.export_key()).unwrap();
        let chain = ca.intermediates().iter().map(|der| der.to_vec()).collect();
        ClusterCa::from_chain(&domain(), chain, stored, ca.root_der().to_vec(), now()).unwrap();
    }
    assert!(build(&[], &root).unwrap().intermediates().is_empty());
}

#[test]
fn an_intermediate_can_be_revoked_by_its_key() {
    let root = root();
    let (lost, next) = (root.sign(|_| {}), root.sign(|_| {}));
    let (lost_ca, next_ca) = (build(&[&lost], &root).unwrap(), build(&[&next], &root).unwrap());
    let svid_of_lost = svid(&lost_ca);
    let store = crate::BundleStore::new();
    store.set(lost_ca.bundle()).unwrap();
    let standing = store.standing(svid_of_lost.chain()).unwrap();
    let subject = RevokedSubject::Key(crate::tls::sha256(&lost.key().public_key()));
    let revoked = vec![Revocation { subject, issued_before: 1_800_000_000 }];
    let bundle = lost_ca.bundle().with_revoked(revoked).unwrap();
    assert_eq!(verdict(bundle.clone(), svid_of_lost.chain()), "revoked");
    assert_eq!(verdict(bundle.clone(), svid(&next_ca).chain()), "ok");
    store.set(bundle).unwrap();
    assert_eq!(store.judge(&standing).unwrap_err().reason(), "revoked");
}

#[test]
fn what_may_not_sign_is_named() {
    let root = root();
    let refused = |edit: fn(&mut CertificateParams)| {
        let text = cause(build(&[&root.sign(edit)], &root));
        assert!(text.contains("certificate 1 (O=Example, CN=") || text.contains("certificate 1:"), "{text}");
        text
    };
    assert!(refused(|params| params.is_ca = IsCa::ExplicitNoCa).contains("not a CA"));
    assert!(refused(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]).contains("keyCertSign"));
    assert!(refused(|params| params.not_after = timestamp::to_date(now()).unwrap()).contains("expired at"));
    let early = |params: &mut CertificateParams| params.not_before = timestamp::to_date(now() + DAY).unwrap();
    assert!(refused(early).contains("valid only from"));
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert!(refused(server).contains("lacks clientAuth"));
    let foreign = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::URI("spiffe://phx.mesh".try_into().unwrap())];
    };
    assert!(refused(foreign).contains("trust domain phx.mesh"));
    let nameless = |params: &mut CertificateParams| params.distinguished_name = DistinguishedName::new();
    assert!(refused(nameless).contains("subject is empty"));
}

#[test]
fn the_path_length_of_each_is_enough() {
    let root = root();
    let short = root.sign(|_| {});
    let below = short.sign(|params| params.distinguished_name.push(DnType::CommonName, "Below"));
    let text = cause(build(&[&below, &short], &root));
    assert!(text.contains("certificate 2 (O=Example, CN=Mesh CA): its path length is 0"), "{text}");
    let short_root = root_with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let text = cause(build(&[&short_root.sign(|_| {})], &short_root));
    assert!(text.contains("the root (O=Example, CN=Root): its path length is 0"), "{text}");
}

/// Name constraints (RFC 5280 section 4.2.1.10): subtrees of the class `tag` with one base each, of the form `kind`.
fn constraints(tag: u8, kind: u8, base: &[u8]) -> CustomExtension {
    let wrap = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let subtrees = wrap(tag, &wrap(0x30, &wrap(kind, base)));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], wrap(0x30, &subtrees));
    extension.set_criticality(true);
    extension
}

#[test]
fn name_constraints_that_refuse_svids_are_found() {
    const PERMITTED: u8 = 0xa0;
    const EXCLUDED: u8 = 0xa1;
    let root = root();
    let (uri, dns, directory) = (0x86, 0x82, 0xa4);
    let with = |tag, kind, base: &[u8]| {
        build(&[&root.sign(|params| params.custom_extensions.push(constraints(tag, kind, base)))], &root)
    };
    assert!(
        cause(with(PERMITTED, uri, b"phx.mesh")).contains("permit URIs of phx.mesh only, not of iad.mesh")
    );
    assert!(cause(with(PERMITTED, uri, b"iad.mesh")).contains("issue it without"));
    assert!(cause(with(PERMITTED, uri, b".mesh")).contains("issue it without"));
    assert!(cause(with(EXCLUDED, uri, b".mesh")).contains("exclude URIs of .mesh"));
    assert!(cause(with(EXCLUDED, uri, b"phx.mesh")).contains("issue it without"));
    assert!(cause(with(PERMITTED, directory, &[0x30, 0])).contains("directory names"));
    with(PERMITTED, dns, b"example.com").unwrap();
}

#[test]
fn the_chain_and_the_key_belong_together() {
    let (root, other) = (root(), root_with(|_| {}));
    let signer = root.sign(|_| {});
    let text = cause(build(&[&signer], &other));
    assert!(text.contains("signature is not by the key of the root"), "{text}");
    let named = root_with(|params| params.distinguished_name.push(DnType::CommonName, "Another"));
    let text = cause(build(&[&signer], &named));
    assert!(
        text.contains("issued by \"O=Example, CN=Root\"") && text.contains("write the signer first"),
        "{text}"
    );
    let with_key = |key: &Made| {
        ClusterCa::from_chain(&domain(), vec![signer.der.clone()], key.key(), root.der.clone(), now())
    };
    assert!(cause(with_key(&root)).contains("the private key is that of the root"));
    assert_eq!(with_key(&other).unwrap_err().reason(), "key-mismatch");
    let many = vec![signer.der.clone(); MAX_INTERMEDIATES + 1];
    let long = ClusterCa::from_chain(&domain(), many, signer.key(), root.der.clone(), now());
    assert!(cause(long).contains("at most 6"));
}

#[test]
fn an_end_that_is_near_is_told() {
    let root = root();
    let signer = root.sign(|params| params.not_after = timestamp::to_date(now() + 40 * DAY).unwrap());
    let ca = build(&[&signer], &root).unwrap();
    assert_eq!(ca.expires(), now() + 40 * DAY);
    assert_eq!(ca.warning(now()), None);
    let soon = ca.warning(now() + 20 * DAY).unwrap();
    assert!(soon.contains("certificate 1 (O=Example, CN=Mesh CA)") && soon.contains("in 20 days"), "{soon}");
    assert!(ca.warning(now() + 50 * DAY).unwrap().contains("ended at"));
    let key = KeyPair::generate().unwrap();
    let id: SpiffeId = "spiffe://iad.mesh/ns/a/sa/b".parse().unwrap();
    let late = now() + 40 * DAY - DAY / 2;
    let chain = ca.sign_svid(&key.csr().unwrap(), &id, late, DAY).unwrap();
    assert_eq!(Svid::new(chain, key).unwrap().not_after(), ca.expires());
}

#[test]
fn an_operator_brings_files() {
    let root = root();
    let signer = root.sign(|_| {});
    let (one, two) = (certificate_pem(&signer.der), certificate_pem(&root.der));
    let file = format!("{}{one}text between\n{two}", signer.key_pem());
    let read = OperatorCa::from_pem(&file, &file).unwrap();
    assert_eq!((&read.chain, &read.root), (&vec![signer.der.clone()], &root.der));
    read.for_trust_domain(&domain(), now()).unwrap();
    let alone = OperatorCa::from_pem(&two, &root.key_pem()).unwrap();
    assert!(alone.chain.is_empty());
    let refused = |certificates: &str| {
        let error = OperatorCa::from_pem(certificates, &signer.key_pem()).unwrap_err();
        assert_eq!(error.reason(), "bad-ca-chain");
        error.to_string()
    };
    assert!(refused("").contains("no block BEGIN CERTIFICATE"));
    assert!(
        refused(&one).contains("certificate 1 (O=Example, CN=Mesh CA), the last, is not a self-signed root")
    );
    assert!(refused(&format!("{two}{one}")).contains("certificate 1 (O=Example, CN=Root) is a root"));
    assert!(refused(&one[..one.len() / 2]).contains("END CERTIFICATE"));
    assert!(refused(&"x".repeat(2 * (MAX_INTERMEDIATES + 1) * MAX_CERTIFICATE + 1)).contains("are read"));
    let error = OperatorCa::from_pem(&file, &two).unwrap_err();
    assert_eq!(error.reason(), "bad-ca-key");
}
