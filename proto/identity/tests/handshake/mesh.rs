//! Handshakes between honest and less honest members of the mesh.

use crate::pair::*;
use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, ServerRule, TrustBundle, client_config, fingerprint, refusal,
    server_config,
};
use causeway_model::{Revocation, RevokedSubject};
use rustls::{CertificateError, Error, HandshakeKind, NamedGroup, PeerIncompatible, ProtocolVersion};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn two_clusters_trust_each_other() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let both = store(&[&iad, &phx]);
    let (caller, callee) = (svid(&iad, "/ns/shop/sa/cart"), svid(&phx, "/ns/shop/sa/payments"));
    let rule = one_of(id(&phx, "/ns/shop/sa/payments"));
    let pair = handshake(&client(rule, &both, &caller), &server(&callee, &both)).unwrap();
    assert_eq!(pair.ids(), (Some(id(&iad, "/ns/shop/sa/cart")), id(&phx, "/ns/shop/sa/payments")));
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = pair.client.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
    let suite = pair.server.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
    assert_eq!(pair.server.alpn_protocol(), Some(ALPN));
    assert_eq!(pair.server.server_name(), None, "the network must not read which service is called");
}

#[test]
fn no_session_is_resumed() {
    let iad = ca("iad.mesh");
    let both = store(&[&iad]);
    let (a, b) = (svid(&iad, "/ns/a/sa/a"), svid(&iad, "/ns/a/sa/b"));
    let (client, server) = (client(one_of(id(&iad, "/ns/a/sa/b")), &both, &a), server(&b, &both));
    for _ in 0..2 {
        let pair = handshake(&client, &server).unwrap();
        assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn an_unknown_trust_domain_is_refused_by_either_side() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let (caller, callee) = (svid(&iad, "/ns/a/sa/a"), svid(&phx, "/ns/a/sa/b"));
    let (both, only_phx, only_iad) = (store(&[&iad, &phx]), store(&[&phx]), store(&[&iad]));
    let rule = one_of(id(&phx, "/ns/a/sa/b"));
    let by_server =
        handshake(&client(rule.clone(), &both, &caller), &server(&callee, &only_phx)).err().unwrap();
    assert!(matches!(by_server, Failed::Server(_)), "{by_server:?}");
    assert!(by_server.explain().contains("iad.mesh") && by_server.explain().contains("knows phx.mesh"));
    let shown = by_server.shown();
    assert!(shown.contains("unknown-trust-domain") && !shown.contains("phx.mesh"), "{shown}");
    let by_client = handshake(&client(rule, &only_iad, &caller), &server(&callee, &both)).err().unwrap();
    let Failed::Client(error) = &by_client else { panic!("{by_client:?}") };
    assert_eq!(refusal(error).unwrap().reason(), "unknown-trust-domain");
}

#[test]
fn a_removed_bundle_ends_trust_at_the_next_handshake() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let both = store(&[&iad, &phx]);
    let (caller, callee) = (svid(&iad, "/ns/a/sa/a"), svid(&phx, "/ns/a/sa/b"));
    let client = client(one_of(id(&phx, "/ns/a/sa/b")), &both, &caller);
    let server = server(&callee, &store(&[&iad, &phx]));
    handshake(&client, &server).unwrap();
    both.remove(phx.trust_domain());
    assert!(matches!(handshake(&client, &server), Err(Failed::Client(_))));
}

/// The result of a handshake in which the client's certificate was issued at `now + offset` for `ttl`.
fn with_client_of(offset_minutes: i64, ttl: Duration) -> Result<Pair, Failed> {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let distance = MINUTE * u32::try_from(offset_minutes.abs()).unwrap();
    let now = SystemTime::now();
    let issued = if offset_minutes < 0 { now - distance } else { now + distance };
    let (caller, callee) = (svid_at(&iad, "/ns/a/sa/a", issued, ttl), svid(&iad, "/ns/a/sa/b"));
    handshake(&client(one_of(id(&iad, "/ns/a/sa/b")), &bundles, &caller), &server(&callee, &bundles))
}

#[test]
fn expired_certificates_have_five_minutes() {
    with_client_of(-60, 57 * MINUTE).unwrap();
    let failed = with_client_of(-60, 50 * MINUTE).err().unwrap();
    let Failed::Server(Error::InvalidCertificate(error)) = &failed else { panic!("{failed:?}") };
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    let text = failed.explain();
    assert!(text.contains("expired") && text.contains("check the clocks"), "{text}");
}

#[test]
fn early_certificates_have_five_minutes() {
    // each certificate begins five minutes before it is issued, and the slack adds five
    with_client_of(9, HOUR).unwrap();
    let failed = with_client_of(11, HOUR).err().unwrap();
    let Failed::Server(Error::InvalidCertificate(error)) = &failed else { panic!("{failed:?}") };
    assert!(matches!(error, CertificateError::NotValidYetContext { .. }), "{error:?}");
    assert!(failed.explain().contains("check the clocks"), "{}", failed.explain());
}

#[test]
fn an_expired_server_is_refused() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let callee = svid_at(&iad, "/ns/a/sa/b", SystemTime::now() - HOUR, 30 * MINUTE);
    let client = client(one_of(id(&iad, "/ns/a/sa/b")), &bundles, &svid(&iad, "/ns/a/sa/a"));
    let failed = handshake(&client, &server(&callee, &bundles)).err().unwrap();
    assert!(matches!(failed, Failed::Client(_)) && failed.explain().contains("expired"), "{failed:?}");
}

#[test]
fn the_wrong_server_is_refused() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let callee = svid(&iad, "/ns/a/sa/other");
    let client = client(one_of(id(&iad, "/ns/a/sa/b")), &bundles, &svid(&iad, "/ns/a/sa/a"));
    let failed = handshake(&client, &server(&callee, &bundles)).err().unwrap();
    assert!(failed.explain().contains("/ns/a/sa/other, and spiffe://iad.mesh/ns/a/sa/b was expected"));
    assert!(!failed.shown().contains("/ns/a/sa/b"), "{}", failed.shown());
}

#[test]
fn a_token_holder_checks_the_fingerprint() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let gateway = svid(&iad, GATEWAY);
    let root = iad.root_der().to_vec();
    let join = |pin| client_config(ServerRule::Fingerprint(pin), &BundleStore::new(), None, ALPN).unwrap();
    let serve = |root| server_config(&gateway, &bundles, &[ALPN], ClientAuth::Optional, root).unwrap();
    let pair = handshake(&join(fingerprint(&root)), &serve(Some(root.clone()))).unwrap();
    assert_eq!(pair.ids(), (None, id(&iad, GATEWAY)));
    let learned =
        causeway_identity::pinned_bundle(pair.client.peer_certificates().unwrap(), &fingerprint(&root));
    assert_eq!(learned.unwrap(), iad.bundle());
    for (pin, chain) in [([7; 32], Some(root.clone())), (fingerprint(&root), None)] {
        let failed = handshake(&join(pin), &serve(chain)).err().unwrap();
        assert!(failed.explain().contains("get a new token"), "{failed:?}");
    }
    // members who know the bundle are not disturbed by the root in the chain
    let member =
        client(ServerRule::GatewayOf(iad.trust_domain().clone()), &bundles, &svid(&iad, "/ns/a/sa/a"));
    handshake(&member, &serve(Some(root))).unwrap();
}

#[test]
fn the_root_beside_an_svid_follows_a_rotation() {
    let (old, new) = (ca("iad.mesh"), ca("iad.mesh"));
    let roots = vec![old.root_der().to_vec(), new.root_der().to_vec()];
    let bundles = store(&[]);
    bundles.set(TrustBundle::new(old.trust_domain().clone(), roots).unwrap()).unwrap();
    let gateway = svid(&old, GATEWAY);
    let root = Some(old.root_der().to_vec());
    let server = server_config(&gateway, &bundles, &[ALPN], ClientAuth::Optional, root).unwrap();
    let join = |ca: &ClusterCa| {
        let rule = ServerRule::Fingerprint(ca.root_fingerprint());
        handshake(&client_config(rule, &BundleStore::new(), None, ALPN).unwrap(), &server)
    };
    join(&old).unwrap();
    assert!(join(&new).is_err());
    // before, during and after, members who know both see no difference
    let member =
        client(ServerRule::GatewayOf(old.trust_domain().clone()), &bundles, &svid(&old, "/ns/a/sa/a"));
    handshake(&member, &server).unwrap();
    gateway.replace((*svid(&new, GATEWAY).current()).clone());
    handshake(&member, &server).unwrap();
    join(&new).unwrap();
    assert!(join(&old).err().unwrap().explain().contains("get a new token"));
}

#[test]
fn a_revoked_client_is_told_what_to_do() {
    let iad = ca("iad.mesh");
    let (caller, callee) = (svid(&iad, "/ns/a/sa/a"), svid(&iad, "/ns/a/sa/b"));
    let bundles = store(&[&iad]);
    let client = client(one_of(id(&iad, "/ns/a/sa/b")), &store(&[&iad]), &caller);
    let server = server(&callee, &bundles);
    handshake(&client, &server).unwrap();
    let revoked = Revocation {
        subject: RevokedSubject::Identity(id(&iad, "/ns/a/sa/a")),
        issued_before: caller.current().issued_at().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    bundles.set(iad.bundle().with_revoked(vec![revoked]).unwrap()).unwrap();
    let failed = handshake(&client, &server).err().unwrap();
    let shown = failed.shown();
    assert!(shown.contains("revoked: ") && shown.contains("join again with a new token"), "{shown}");
    // a new token gives a new certificate
    let after = SystemTime::now() + Duration::from_secs(1);
    caller.replace((*svid_at(&iad, "/ns/a/sa/a", after, HOUR).current()).clone());
    handshake(&client, &server).unwrap();
}

#[test]
fn an_operators_root_is_pinned_with_its_trust_domain() {
    let (iad, phx) = (operators_ca("iad.mesh"), operators_ca("phx.mesh"));
    let gateway = svid(&iad, GATEWAY);
    let root = Some(iad.root_der().to_vec());
    let server = server_config(&gateway, &store(&[&iad]), &[ALPN], ClientAuth::Optional, root).unwrap();
    let join = |rule| handshake(&client_config(rule, &BundleStore::new(), None, ALPN).unwrap(), &server);
    let pinned =
        |ca: &ClusterCa, trust_domain| ServerRule::Pinned { root: ca.root_fingerprint(), trust_domain };
    let pair = join(pinned(&iad, iad.trust_domain().clone())).unwrap();
    assert_eq!(pair.ids(), (None, id(&iad, GATEWAY)));
    let learned =
        causeway_identity::pinned_bundle(pair.client.peer_certificates().unwrap(), &iad.root_fingerprint());
    assert_eq!(learned.unwrap(), iad.bundle());
    // the root alone does not say for whom it speaks
    assert!(join(ServerRule::Fingerprint(iad.root_fingerprint())).is_err());
    assert!(join(pinned(&iad, phx.trust_domain().clone())).is_err());
    assert!(join(pinned(&phx, iad.trust_domain().clone())).is_err());
    // with a bundle everything is as with a root of our own
    let member =
        client(ServerRule::GatewayOf(iad.trust_domain().clone()), &store(&[&iad]), &svid(&iad, "/ns/a/sa/a"));
    handshake(&member, &server).unwrap();
}

#[test]
fn a_client_without_svid_is_refused_where_one_is_required() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let rule = ServerRule::GatewayOf(iad.trust_domain().clone());
    let nobody = client_config(rule, &bundles, None, ALPN).unwrap();
    let failed = handshake(&nobody, &server(&svid(&iad, GATEWAY), &bundles)).err().unwrap();
    assert!(matches!(failed, Failed::Server(Error::NoCertificatesPresented)), "{failed:?}");
    assert!(failed.explain().contains("must join"));
}

#[test]
fn a_certificate_that_is_optional_is_still_verified() {
    let (iad, phx) = (ca("iad.mesh"), ca("phx.mesh"));
    let rule = ServerRule::GatewayOf(iad.trust_domain().clone());
    let stranger = client(rule, &store(&[&iad]), &svid(&phx, "/ns/a/sa/a"));
    let bundles = store(&[&iad]);
    let server = server_config(&svid(&iad, GATEWAY), &bundles, &[ALPN], ClientAuth::Optional, None).unwrap();
    assert!(matches!(handshake(&stranger, &server), Err(Failed::Server(_))));
}

#[test]
fn a_renewed_svid_is_used_by_the_next_handshake() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let (caller, callee) = (svid(&iad, "/ns/a/sa/a"), svid(&iad, "/ns/a/sa/b"));
    let (client, server) =
        (client(one_of(id(&iad, "/ns/a/sa/b")), &bundles, &caller), server(&callee, &bundles));
    let leaves = |pair: &Pair| {
        let leaf = |chain: Option<&[_]>| chain.unwrap().first().cloned().unwrap();
        (leaf(pair.server.peer_certificates()), leaf(pair.client.peer_certificates()))
    };
    let before = leaves(&handshake(&client, &server).unwrap());
    for (source, path) in [(&caller, "/ns/a/sa/a"), (&callee, "/ns/a/sa/b")] {
        source.clone().replace((*svid(&iad, path).current()).clone());
    }
    let after = leaves(&handshake(&client, &server).unwrap());
    assert_eq!(after, (caller.current().chain()[0].clone(), callee.current().chain()[0].clone()));
    assert!(before.0 != after.0 && before.1 != after.1);
}

#[test]
fn protocols_must_match() {
    let iad = ca("iad.mesh");
    let bundles = store(&[&iad]);
    let rule = one_of(id(&iad, "/ns/a/sa/b"));
    let other = client_config(rule, &bundles, Some(&svid(&iad, "/ns/a/sa/a")), b"other/1").unwrap();
    assert!(matches!(
        handshake(&other, &server(&svid(&iad, "/ns/a/sa/b"), &bundles)),
        Err(Failed::Server(Error::NoApplicationProtocol))
    ));
}

#[test]
fn tls12_is_not_spoken() {
    let iad = ca("iad.mesh");
    let server = server(&svid(&iad, GATEWAY), &store(&[&iad]));
    let mut connection = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
    // a ClientHello of TLS 1.2 (RFC 5246 section 7.4.1.2): ECDHE-ECDSA-AES128-GCM, with its curve and signature
    let extensions = [&[0, 10, 0, 4, 0, 2, 0, 23][..], &[0, 13, 0, 4, 0, 2, 4, 3], &[0, 23, 0, 0]].concat();
    let extensions_length = u8::try_from(extensions.len()).unwrap();
    let body =
        [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0, 0, extensions_length], &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let error = feed(&mut connection, &hello).unwrap_err();
    assert_eq!(error, Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired));
}
