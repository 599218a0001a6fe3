//! Making a connection to a peer: handshake, hello, and the checks that make it the right one.

use crate::choose::{Candidate, Target};
use crate::failure::Failure;
use crate::hello;
use crate::membership::Membership;
use crate::metrics::SidecarMetrics;
use crate::peer::{Peer, vouched_until};
use crate::trust::Ending;
use causeway_identity::{CLOCK_SLACK, ServerRule, client_config};
use causeway_model::{ServiceName, SpiffeId, TrustDomain};
use causeway_runtime::Tasks;
use causeway_transport::{
    Connection, ConnectionKind, Destination, OverlayEndpoint, close, close_reason, close_reason_text,
    peer_identity,
};
use causeway_wire::data::DataHello;
use causeway_wire::{CloseCode, alpn};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a handshake may take with the endpoint that a gateway picks: longer than one over any distance.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// Whom to connect to, and whom to believe there.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) target: Target,
    destination: Destination,
    service: ServiceName,
    identities: Arc<[SpiffeId]>,
    trust_domain: TrustDomain,
}

impl Dial {
    /// What it takes to reach `candidate` for `service`.
    pub(crate) fn new(candidate: &Candidate<'_>, service: &ServiceName) -> Self {
        Self {
            target: candidate.target,
            destination: candidate.destination,
            service: service.clone(),
            identities: candidate.offer.identities.as_slice().into(),
            trust_domain: candidate.offer.cluster.trust_domain.clone(),
        }
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::Endpoint(cluster, instance) => write!(f, "endpoint {instance} of cluster {cluster}"),
            Target::Service(cluster, _) => write!(f, "any endpoint of {} in cluster {cluster}", self.service),
        }
    }
}

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) endpoint: OverlayEndpoint,
    pub(crate) membership: Arc<Membership>,
    pub(crate) metrics: SidecarMetrics,
    pub(crate) tasks: Tasks,
    /// How long a handshake may take.
    pub(crate) timeout: Duration,
    /// How often something is sent on a connection at least.
    pub(crate) keep_alive: Duration,
}

impl Connector {
    /// A connection to `dial`, with what its peer said of itself. The handshake may take no longer than `most`.
    ///
    /// # Errors
    /// Why there is none; the connection, if there was one, is closed.
    pub(crate) async fn connect(&self, dial: &Dial, most: Duration) -> Result<(Peer, DataHello), Failure> {
        let result = self.attempt(dial, most).await;
        if let (Err(_), Target::Endpoint(cluster, instance)) = (&result, dial.target)
            && cluster == self.membership.cluster
        {
            self.membership.directs.doubt(instance);
        }
        result
    }

    async fn attempt(&self, dial: &Dial, most: Duration) -> Result<(Peer, DataHello), Failure> {
        let began = Instant::now();
        let limit = match dial.target {
            Target::Endpoint(..) => self.timeout.min(most),
            // the next attempt may be given another endpoint, so it pays to give one up that does not answer
            Target::Service(..) => self.timeout.min(FIRST_CONTACT).min(most),
        };
        // half of the slack, so that this side makes a new connection before the other refuses streams
        let own = self.membership.svid.current().not_after() + CLOCK_SLACK / 2;
        let connection = tokio::time::timeout(limit, self.handshake(dial))
            .await
            .map_err(|_| failed(dial, "timed-out", format!("no handshake within {limit:?}")))??;
        let refused = |Ending { code, text }| {
            close(&connection, code, &text);
            failed(dial, code.reason(), text)
        };
        let watched = self.membership.trust.watch(&connection).map_err(refused)?;
        let hello = hello::initiate(&connection, self.membership.hello(dial.target.cluster()));
        let hello = hello.await.map_err(|error| match watched.ending() {
            Some(ending) => failed(dial, ending.code.reason(), ending.text.clone()),
            None => failed(dial, error.reason(), error.to_string()),
        })?;
        let identity = self.judge(dial, &connection, &hello).map_err(refused)?;
        self.metrics.connect_seconds.observe(began.elapsed().as_secs_f64());
        let until = vouched_until(&connection).min(own);
        Ok((Peer::new(connection, hello.cluster, hello.instance, identity, watched, until), hello))
    }

    async fn handshake(&self, dial: &Dial) -> Result<Connection, Failure> {
        let rule = ServerRule::OneOf(Arc::clone(&dial.identities));
        let member = &self.membership;
        let tls = client_config(rule, &member.bundles, Some(&member.svid), alpn::DATA)
            .map_err(|error| failed(dial, error.reason(), error.to_string()))?;
        let name = dial.service.to_string();
        let connecting = self.endpoint.connect(dial.destination, tls, &name, ConnectionKind::Data);
        connecting
            .map_err(|error| failed(dial, error.reason(), error.to_string()))?
            .await
            .map_err(|error| failed(dial, close_reason(&error), close_reason_text(&error)))
    }

    /// Who the peer is, if it is the one that was meant.
    fn judge(&self, dial: &Dial, connection: &Connection, hello: &DataHello) -> Result<SpiffeId, Ending> {
        let refused = |code, text| Ending { code, text };
        let identity = peer_identity(connection)
            .map_err(|error| refused(CloseCode::WrongIdentity, error.to_string()))?;
        let domain = identity.trust_domain();
        if *domain != dial.trust_domain
            || hello.cluster != dial.target.cluster()
            || !hello::plausible(hello, domain, &self.membership)
        {
            let text = format!("{identity} says that it is of cluster {}", hello.cluster);
            return Err(refused(CloseCode::WrongIdentity, text));
        }
        match dial.target {
            Target::Endpoint(_, instance) if instance != hello.instance => {
                Err(refused(CloseCode::InstanceGone, format!("instance {} answered instead", hello.instance)))
            }
            _ => Ok(identity),
        }
    }
}

fn failed(dial: &Dial, reason: &'static str, text: String) -> Failure {
    Failure::Connection { endpoint: dial.to_string(), reason, text }
}
