//! A sidecar, played: it joins with a token, attaches, registers and subscribes, as a client of the control protocol.

use crate::peer::SERVER_NAME;
use crate::probes::Probed;
use causeway_identity::{BundleStore, KeyPair, ServerRule, Svid, SvidSource, TrustBundle, client_config};
use causeway_model::{ClusterId, Health, NodeId, ServiceName, TrustDomain, WorkloadId};
use causeway_transport::{BootstrapEndpoint, Connection, FrameReader, FrameWriter, exporter};
use causeway_wire::alpn;
use causeway_wire::ctl::{
    Attach, Attached, Hello, Join, Register, ReportHealth, ServedService, Subscribe, ToGateway, ToSidecar,
};
use causeway_wire::token::{EXPORTER_LABEL, JoinToken, join_proof};
use causeway_wire::view::{ServiceView, VersionInfo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// When a lost connection is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// Who a played sidecar is, and where its gateway is. Many may be the same.
#[derive(Clone)]
pub(crate) struct Identity {
    svid: SvidSource,
    bundles: BundleStore,
    cluster: ClusterId,
    trust_domain: TrustDomain,
    gateway: SocketAddr,
}

/// A control session.
pub(crate) struct Session {
    /// Its connection, which ends when this is dropped.
    _connection: Connection,
    writer: FrameWriter,
    reader: FrameReader,
}

async fn open(connection: Connection) -> Option<Session> {
    let (send, receive) = connection.open_bi().await.ok()?;
    Some(Session {
        _connection: connection,
        writer: FrameWriter::new(send),
        reader: FrameReader::new(receive),
    })
}

impl Identity {
    /// Joins with a token.
    pub(crate) async fn join(endpoint: &BootstrapEndpoint, gateway: SocketAddr, token: &JoinToken) -> Self {
        let core = &token.core;
        let rule =
            ServerRule::Pinned { root: core.root_fingerprint, trust_domain: core.trust_domain.clone() };
        let tls = client_config(rule, &BundleStore::new(), None, alpn::CTL).unwrap();
        let connecting = endpoint.connect(gateway, core.cluster_id, NodeId::ANY, tls, SERVER_NAME).unwrap();
        let connection = connecting.await.expect("a connection to join");
        let proven = exporter(&connection, EXPORTER_LABEL, &[]).unwrap();
        let mut session = open(connection).await.expect("a stream");
        session.hello(None).await.expect("it is heard");
        let key = KeyPair::generate().unwrap();
        let csr = key.csr().unwrap();
        let proof = join_proof(&core.verifier(), &proven, &csr);
        session.say(Join { request: 1, token: core.id, proof, csr }).await.expect("it is heard");
        let issued = loop {
            match session.hear().await.expect("an answer") {
                ToSidecar::Issued(issued) => break issued,
                ToSidecar::Refused(refused) => panic!("no SVID: {refused:?}"),
                _ => {}
            }
        };
        let bundles = BundleStore::new();
        bundles
            .set(TrustBundle::new(issued.bundle.trust_domain.clone(), issued.bundle.roots).unwrap())
            .unwrap();
        Self {
            svid: SvidSource::new(Svid::new(issued.chain, key).unwrap()),
            bundles,
            cluster: core.cluster_id,
            trust_domain: core.trust_domain.clone(),
            gateway,
        }
    }

    async fn connect(&self, endpoint: &BootstrapEndpoint) -> Option<Session> {
        let rule = ServerRule::GatewayOf(self.trust_domain.clone());
        let tls = client_config(rule, &self.bundles, Some(&self.svid), alpn::CTL).unwrap();
        let connecting = endpoint.connect(self.gateway, self.cluster, NodeId::ANY, tls, SERVER_NAME).unwrap();
        open(connecting.await.ok()?).await
    }

    /// A new instance; nothing if the connection is lost, as all that follows.
    pub(crate) async fn attach(&self, endpoint: &BootstrapEndpoint) -> Option<Attached> {
        let mut session = self.connect(endpoint).await?;
        session.hello(None).await?;
        session.say(Attach { request: 1 }).await?;
        loop {
            match session.hear().await? {
                ToSidecar::Attached(attached) => return Some(attached),
                ToSidecar::Refused(refused) => panic!("not attached: {refused:?}"),
                _ => {}
            }
        }
    }

    /// What an instance needs to be probed for.
    pub(crate) fn probed(&self, attached: &Attached) -> Probed {
        Probed {
            gateway: self.gateway,
            cluster: self.cluster,
            workload: attached.workload,
            secret: attached.probe_key.clone(),
        }
    }

    /// A session of an instance that serves `services`, registered.
    pub(crate) async fn session(
        &self,
        endpoint: &BootstrapEndpoint,
        workload: WorkloadId,
        services: &[ServiceName],
    ) -> Option<Session> {
        let mut session = self.connect(endpoint).await?;
        session.hello(Some(workload)).await?;
        let served = |name: &ServiceName| ServedService {
            name: name.clone(),
            ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
            health: Health::Healthy,
        };
        let services = services.iter().map(served).collect();
        session
            .say(Register { request: 2, services, locality: None, weight: 100, overlay: Vec::new() })
            .await?;
        loop {
            match session.hear().await? {
                ToSidecar::Registered(_) => return Some(session),
                ToSidecar::Refused(refused) => panic!("not registered: {refused:?}"),
                _ => {}
            }
        }
    }
}

impl Session {
    async fn hello(&mut self, workload: Option<WorkloadId>) -> Option<()> {
        self.say(Hello { version: VersionInfo::current(), workload }).await
    }

    async fn say(&mut self, message: impl Into<ToGateway>) -> Option<()> {
        self.writer.send(&message.into()).await.ok()
    }

    async fn hear(&mut self) -> Option<ToSidecar> {
        self.reader.next().await.ok().flatten()
    }

    /// Says which services it uses.
    pub(crate) async fn subscribe(&mut self, services: Vec<ServiceName>) -> Option<()> {
        self.say(Subscribe { services }).await
    }

    /// Says how a service is.
    pub(crate) async fn report(&mut self, service: ServiceName, health: Health) -> Option<()> {
        self.say(ReportHealth { service, health }).await
    }

    /// The next service that it is told of.
    pub(crate) async fn told(&mut self) -> Option<ServiceView> {
        loop {
            if let ToSidecar::Service(view) = self.hear().await? {
                return Some(view);
            }
        }
    }
}

/// A sidecar that uses services, and passes on what it is told of them: its number, when, and what.
pub(crate) struct User {
    pub(crate) number: u32,
    pub(crate) identity: Identity,
    pub(crate) endpoint: BootstrapEndpoint,
    pub(crate) services: Vec<ServiceName>,
    pub(crate) sender: Sender<Told>,
}

/// What a sidecar was told, and when.
pub(crate) type Told = (u32, Instant, ServiceView);

impl User {
    /// Attaches, however often it takes; then goes on in the background as long as somebody listens. Connections that were lost
    /// are counted.
    pub(crate) async fn start(self, probing: Sender<Probed>, lost: Arc<AtomicU64>) {
        let attached = loop {
            match self.identity.attach(&self.endpoint).await {
                Some(attached) => break attached,
                None => lose(&lost).await,
            }
        };
        probing.send(self.identity.probed(&attached)).expect("probes go on");
        let workload = attached.workload;
        let mut session = loop {
            match self.session(workload).await {
                Some(session) => break session,
                None => lose(&lost).await,
            }
        };
        tokio::spawn(async move {
            loop {
                while let Some(view) = session.told().await {
                    if self.sender.send((self.number, Instant::now(), view)).is_err() {
                        return;
                    }
                }
                lose(&lost).await;
                if let Some(again) = self.session(workload).await {
                    session = again;
                }
            }
        });
    }

    async fn session(&self, workload: WorkloadId) -> Option<Session> {
        let mut session = self.identity.session(&self.endpoint, workload, &[]).await?;
        session.subscribe(self.services.clone()).await?;
        Some(session)
    }
}

async fn lose(lost: &AtomicU64) {
    lost.fetch_add(1, Relaxed);
    tokio::time::sleep(AGAIN).await;
}
