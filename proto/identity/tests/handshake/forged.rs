//! Certificates that our CA never makes: what a linked cluster that has gone bad, or a stranger, could present.

use crate::pair::*;
use causeway_identity::{BundleStore, ClusterCa, IdentityError, KeyPair, Svid, Usage, verify_chain};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, IsCa, Issuer, KeyUsagePurpose, SanType};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::SystemTime;

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// A certificate that `ca` signed though it should not have, and its key.
fn forge(
    ca: &ClusterCa,
    edit: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, rcgen::KeyPair) {
    let signing = rcgen::KeyPair::try_from(ca.export_key().as_slice()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(ca.root_der().to_vec()), signing).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    edit(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().into(), key)
}

fn verify(bundles: &BundleStore, chain: &[CertificateDer<'_>]) -> &'static str {
    verify_chain(bundles, chain, Usage::Server, SystemTime::now()).map_or_else(|e| e.reason(), |_| "ok")
}

#[test]
fn a_linked_cluster_cannot_speak_for_another() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let both = store(&[&iad, &phx]);
    let (cert, key) = forge(&phx, |params| params.subject_alt_names.push(uri("spiffe://iad.mesh/ns/a/sa/b")));
    // presented with every root that might help
    let roots = [iad.root_der(), phx.root_der()].map(|root| CertificateDer::from(root.to_vec()));
    let chain: Vec<_> = std::iter::once(cert).chain(roots).collect();
    assert_eq!(verify(&both, &chain), "bad-signature");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::from_der(chain, key, &causeway_identity::provider()).unwrap();
    let mut server = (*server(&svid(&phx, "/ns/a/sa/x"), &both)).clone();
    server.cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    let client = client(one_of(id(&iad, "/ns/a/sa/b")), &both, &svid(&iad, "/ns/a/sa/a"));
    let failed = handshake(&client, &Arc::new(server)).err().unwrap();
    assert!(matches!(failed, Failed::Client(_)), "{failed:?}");
    assert!(failed.explain().contains("not signed by a root of its trust domain"), "{}", failed.explain());
}

#[test]
fn only_one_uri_name() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let check = |uris: &[&str]| {
        let names = uris.iter().map(|name| uri(name)).collect();
        verify(&bundles, &[forge(&iad, |params| params.subject_alt_names = names).0])
    };
    assert_eq!(check(&["spiffe://iad.mesh/ns/a/sa/b"]), "ok");
    assert_eq!(check(&["spiffe://iad.mesh/ns/a/sa/b", "spiffe://iad.mesh/ns/a/sa/c"]), "not-spiffe");
    assert_eq!(check(&["spiffe://iad.mesh/ns/a/sa/b", "https://iad.mesh/"]), "not-spiffe");
    assert_eq!(check(&["https://iad.mesh/"]), "not-spiffe");
    assert_eq!(check(&["spiffe://iad.mesh"]), "not-spiffe");
    assert_eq!(check(&["spiffe://IAD.mesh/ns/a/sa/b"]), "not-spiffe");
    assert_eq!(check(&[]), "not-spiffe");
}

#[test]
fn a_malformed_name_is_not_passed_over() {
    let iad = ca("iad.mesh");
    // a second URI name (tag 6) that is not text, after a good one
    let good = b"spiffe://iad.mesh/ns/a/sa/b";
    let mut names = vec![0x86, u8::try_from(good.len()).unwrap()];
    names.extend_from_slice(good);
    names.extend_from_slice(&[0x86, 2, 0xff, 0xfe]);
    let mut content = vec![0x30, u8::try_from(names.len()).unwrap()];
    content.append(&mut names);
    let (cert, _) = forge(&iad, |params| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], content));
    });
    assert_eq!(verify(&store(&[&iad]), &[cert]), "not-spiffe");
}

#[test]
fn leaves_must_be_leaves() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let check = |edit: fn(&mut CertificateParams)| {
        let (cert, _) = forge(&iad, |params| {
            params.subject_alt_names.push(uri("spiffe://iad.mesh/ns/a/sa/b"));
            edit(params);
        });
        verify(&bundles, &[cert])
    };
    assert_eq!(check(|_| {}), "ok");
    assert_eq!(check(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), "not-spiffe");
    assert_eq!(check(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "not-spiffe");
    assert_eq!(check(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]), "not-spiffe");
    let only_client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert_eq!(check(only_client), "bad-chain");
}

#[test]
fn our_own_svid_follows_the_same_rules() {
    let iad = ca("iad.mesh");
    let (cert, key) = forge(&iad, |params| {
        params.subject_alt_names =
            vec![uri("spiffe://iad.mesh/ns/a/sa/b"), uri("spiffe://iad.mesh/ns/a/sa/c")];
    });
    let key = KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let error = Svid::new(vec![cert.to_vec()], key).unwrap_err();
    assert!(
        matches!(&error, IdentityError::Certificate { cause, .. } if cause.contains("2 URI names")),
        "{error}"
    );
}
