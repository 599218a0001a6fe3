//! A client and a server connection whose bytes are carried by hand, and the material to set them up.

use causeway_identity::{
    BundleStore, ClientAuth, ClusterCa, KeyPair, OperatorCa, ServerRule, Svid, SvidSource, client_config,
    explain, peer_id, server_config,
};
use causeway_model::SpiffeId;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyUsagePurpose};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) const ALPN: &[u8] = b"causeway-test/1";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const GATEWAY: &str = "/causeway/gateway/0000000000000007";

pub(crate) fn ca(trust_domain: &str) -> ClusterCa {
    // older than any certificate of these tests
    ClusterCa::create(&trust_domain.parse().unwrap(), SystemTime::now() - 100 * HOUR).unwrap()
}

/// The CA of `trust_domain` with an intermediate on P-384 that a root without trust domain signed.
pub(crate) fn operators_ca(trust_domain: &str) -> ClusterCa {
    let make = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    };
    let ((root, root_key), (signer, signer_key)) = (make("Root"), make("Mesh"));
    let root_der = root.self_signed(&root_key).unwrap();
    let signer = signer.signed_by(&signer_key, &Issuer::from_params(&root, &root_key)).unwrap();
    OperatorCa::from_pem(&(signer.pem() + &root_der.pem()), &signer_key.serialize_pem())
        .unwrap()
        .for_trust_domain(&trust_domain.parse().unwrap(), SystemTime::now())
        .unwrap()
}

pub(crate) fn id(ca: &ClusterCa, path: &str) -> SpiffeId {
    format!("spiffe://{}{path}", ca.trust_domain()).parse().unwrap()
}

/// An SVID of `ca` whose certificate was issued at `now` for `ttl`.
pub(crate) fn svid_at(ca: &ClusterCa, path: &str, now: SystemTime, ttl: Duration) -> SvidSource {
    let key = KeyPair::generate().unwrap();
    let chain = ca.sign_svid(&key.csr().unwrap(), &id(ca, path), now, ttl).unwrap();
    SvidSource::new(Svid::new(chain, key).unwrap())
}

pub(crate) fn svid(ca: &ClusterCa, path: &str) -> SvidSource {
    svid_at(ca, path, SystemTime::now(), HOUR)
}

pub(crate) fn store(cas: &[&ClusterCa]) -> BundleStore {
    let store = BundleStore::new();
    store.replace_all(cas.iter().map(|ca| ca.bundle()).collect()).unwrap();
    store
}

pub(crate) fn one_of(id: SpiffeId) -> ServerRule {
    ServerRule::OneOf(vec![id].into())
}

/// A server that anybody whom `bundles` knows may call.
pub(crate) fn server(svid: &SvidSource, bundles: &BundleStore) -> Arc<ServerConfig> {
    server_config(svid, bundles, &[ALPN], ClientAuth::Required, None).unwrap()
}

pub(crate) fn client(rule: ServerRule, bundles: &BundleStore, svid: &SvidSource) -> Arc<ClientConfig> {
    client_config(rule, bundles, Some(svid), ALPN).unwrap()
}

/// What went wrong, and where.
#[derive(Debug)]
pub(crate) enum Failed {
    Client(rustls::Error),
    Server(rustls::Error),
}

impl Failed {
    /// What the side that refused tells its operator.
    pub(crate) fn explain(&self) -> String {
        let (Self::Client(error) | Self::Server(error)) = self;
        explain(error).unwrap_or_else(|| panic!("{self:?} has no explanation"))
    }

    /// What rustls shows of it, which QUIC sends to the peer.
    pub(crate) fn shown(&self) -> String {
        let (Self::Client(error) | Self::Server(error)) = self;
        error.to_string()
    }
}

pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Pair {
    pub(crate) fn new(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        Self::named("payments.shop", client, server)
    }

    pub(crate) fn named(name: &str, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Self {
        let name = name.to_owned().try_into().unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
        }
    }

    /// Carries bytes both ways until both sides are silent or one fails.
    pub(crate) fn run(mut self) -> Result<Self, Failed> {
        while self.client.wants_write() || self.server.wants_write() {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).unwrap();
            }
            feed(&mut self.server, &bytes).map_err(Failed::Server)?;
            bytes.clear();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            feed(&mut self.client, &bytes).map_err(Failed::Client)?;
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(self)
    }

    /// Who the client and the server are to each other.
    pub(crate) fn ids(&self) -> (Option<SpiffeId>, SpiffeId) {
        let client = self.server.peer_certificates().map(|chain| peer_id(chain).unwrap());
        (client, peer_id(self.client.peer_certificates().unwrap()).unwrap())
    }
}

pub(crate) fn feed<C, D>(connection: &mut C, mut bytes: &[u8]) -> Result<(), rustls::Error>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    D: rustls::SideData,
{
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes.by_ref()).unwrap();
        connection.process_new_packets()?;
    }
    Ok(())
}

/// The handshake of a client and a server, to its end.
pub(crate) fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Pair, Failed> {
    Pair::new(client, server).run()
}
