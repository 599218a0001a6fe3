//! Joining and attaching over plain connections.

use super::checks::expired;
use super::dial::{self, Credentials, Reached, Setbacks};
use super::{Expected, issue};
use crate::error::JoinError;
use crate::exchange::{Exchange, Fault};
use crate::moment::unix;
use crate::refusal::{is_final_close, is_transient};
use crate::trust::keep_revoked;
use causeway_identity::{
    BundleStore, CLOCK_SLACK, IdentityError, KeyPair, ServerRule, SvidSource, TrustBundle,
};
use causeway_model::{ClusterFacts, HostPort, WorkloadId};
use causeway_transport::says_revoked;
use causeway_transport::{
    BootstrapEndpoint, FrameError, TransportSettings, close, close_reason_text, exporter,
};
use causeway_wire::CloseCode;
use causeway_wire::ctl::{Attach, Attached, Issued, Join, ToSidecar};
use causeway_wire::token::{EXPORTER_LABEL, JoinToken, join_proof};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Why a try failed.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Another try may succeed; the causes, each with its address.
    Retry(String),
    /// No other try will.
    Final(JoinError),
}

impl<E: Into<JoinError>> From<E> for Setback {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// What a sidecar has joined.
pub(crate) struct Member {
    pub(crate) cluster: ClusterFacts,
    /// The root that the token names was believed already; if not, trust begins anew, whatever was learned of it before.
    pub(crate) trusted_before: bool,
}

/// What a sidecar joins and attaches with. It has one key for all tries: a gateway that had signed it before its answer was
/// lost can tell that the same sidecar asks again.
pub(crate) struct Enroller {
    expected: Expected,
    token: Option<JoinToken>,
    hosts: Vec<HostPort>,
    setbacks: Setbacks,
    key: KeyPair,
    svid: Option<SvidSource>,
    /// The identity was revoked, so that another one is needed though it lives.
    revoked: bool,
    bundles: BundleStore,
    endpoint: Option<BootstrapEndpoint>,
    ip: IpAddr,
    settings: TransportSettings,
}

impl Enroller {
    pub(crate) fn new(
        expected: Expected,
        token: Option<JoinToken>,
        hosts: Vec<HostPort>,
        key: KeyPair,
        svid: Option<SvidSource>,
        bundles: BundleStore,
        ip: IpAddr,
        settings: TransportSettings,
    ) -> Self {
        let setbacks = Setbacks::default();
        Self {
            expected,
            token,
            hosts,
            setbacks,
            key,
            svid,
            revoked: false,
            bundles,
            endpoint: None,
            ip,
            settings,
        }
    }

    pub(crate) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The identity, once there is one.
    pub(crate) fn svid(&self) -> Result<SvidSource, JoinError> {
        self.svid.clone().ok_or(JoinError::NoToken { state_dir: None })
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Joins anew with `key`, because the identity was revoked. What `key` was before is not told: it may be what was revoked.
    pub(crate) fn begin_anew(&mut self, key: KeyPair) {
        (self.key, self.revoked) = (key, true);
    }

    /// As [`Enroller::begin_anew`], and the token decides who this is, as at the first start.
    pub(crate) fn forget_identity(&mut self, key: KeyPair) {
        (self.key, self.svid) = (key, None);
    }

    /// Whether there is no identity that lives.
    pub(crate) fn needs_to_join(&self) -> bool {
        let now = SystemTime::now();
        self.revoked || self.svid.as_ref().is_none_or(|svid| svid.current().expires_in(now).is_zero())
    }

    /// Dials these, and the token's, from now on.
    pub(crate) fn set_hosts(&mut self, gateways: &[causeway_model::GatewayFacts]) {
        let hosts = dial::hosts(gateways, self.token.as_ref());
        if !hosts.is_empty() {
            self.hosts = hosts;
        }
    }

    /// Gives the UDP port back until it is needed again.
    pub(crate) fn close(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.close(CloseCode::Done, "");
        }
    }

    /// Joins with the token unless there is an identity that lives; what it joined, if it did.
    pub(crate) async fn join_if_needed(&mut self) -> Result<Option<Member>, Setback> {
        if !self.needs_to_join() {
            return Ok(None);
        }
        let token = self.token.clone().ok_or_else(|| match &self.svid {
            Some(svid) => expired(&svid.current(), None),
            None => JoinError::NoToken { state_dir: None },
        })?;
        let pin = token.core.root_fingerprint;
        let reached = self
            .dial(ServerRule::Pinned { root: pin, trust_domain: self.expected.trust_domain.clone() }, false)
            .await?;
        let outcome = self.join(&token, &reached).await;
        self.settle(&reached, &outcome);
        let (cluster, issued) = outcome?;
        let (key, domain) = (self.key.clone(), &self.expected.trust_domain);
        let judged = issue::accept(issued, key, domain, Some(&pin), SystemTime::now());
        let (svid, bundle) =
            judged.map_err(|cause| JoinError::BadIssue { peer: reached.peer.clone(), cause })?;
        let other = self.svid.as_ref().map(SvidSource::current).filter(|old| old.id() != svid.id());
        if let Some(old) = other {
            let cause = format!("the token is for {}, and this sidecar is {}", svid.id(), old.id());
            return Err(JoinError::BadIssue { peer: reached.peer, cause }.into());
        }
        let trusted_before = self.believe(bundle, &pin)?;
        self.revoked = false;
        tracing::info!(id = %svid.id(), cluster = %cluster.name, token = token.core.id_text(), "joined");
        match &self.svid {
            Some(source) => source.replace(svid),
            None => self.svid = Some(SvidSource::new(svid)),
        }
        Ok(Some(Member { cluster, trusted_before }))
    }

    /// Believes the bundle that came with an identity; whether the root that the token names was believed before.
    fn believe(&self, issued: TrustBundle, pin: &[u8; 32]) -> Result<bool, IdentityError> {
        let known = self.bundles.get(&issued.trust_domain).filter(|known| known.has_root(pin));
        self.bundles.set(keep_revoked(issued, known.as_deref())?)?;
        Ok(known.is_some())
    }

    async fn join(&self, token: &JoinToken, reached: &Reached) -> Result<(ClusterFacts, Issued), Setback> {
        let mut exchange = self.greet(reached, None).await?;
        let csr = self.key.csr()?;
        let bound_to = exporter(&reached.connection, EXPORTER_LABEL, b"")?;
        let proof = join_proof(&token.core.verifier(), &bound_to, &csr);
        let asked = exchange.ask("join", |request| Join { request, token: token.core.id, proof, csr }.into());
        match asked.await {
            Ok(ToSidecar::Issued(issued)) => Ok((exchange.welcome.cluster, issued)),
            Ok(_) => Err(judge(Fault::Protocol("its answer to join is no identity"), "join", reached)),
            Err(fault) => Err(judge(fault, "join", reached)),
        }
    }

    /// Gets workload id and keys; those of `workload` if it is attached already.
    pub(crate) async fn attach(
        &mut self,
        workload: Option<WorkloadId>,
    ) -> Result<(ClusterFacts, Attached), Setback> {
        let rule = ServerRule::GatewayOf(self.expected.trust_domain.clone());
        let reached = self.dial(rule, true).await?;
        let outcome = async {
            let mut exchange = self.greet(&reached, workload).await?;
            match exchange.ask("attach", |request| Attach { request }.into()).await {
                Ok(ToSidecar::Attached(attached)) if attached.cid_keys.is_empty() => {
                    Err(judge(Fault::Protocol("it attached without keys"), "attach", &reached))
                }
                Ok(ToSidecar::Attached(attached)) => Ok((exchange.welcome.cluster, attached)),
                Ok(_) => Err(judge(Fault::Protocol("its answer to attach has no keys"), "attach", &reached)),
                Err(fault) => Err(judge(fault, "attach", &reached)),
            }
        }
        .await;
        self.settle(&reached, &outcome);
        outcome
    }

    /// Ends the connection, and remembers whether its gateway did what it was asked.
    fn settle<T>(&mut self, reached: &Reached, outcome: &Result<T, Setback>) {
        close(&reached.connection, CloseCode::Done, "");
        match outcome {
            Ok(_) => self.setbacks.forget(reached.addr),
            Err(_) => self.setbacks.note(reached.addr),
        }
    }

    async fn dial(&mut self, rule: ServerRule, with_svid: bool) -> Result<Reached, Setback> {
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => self.endpoint.insert(BootstrapEndpoint::bind(self.ip, &self.settings)?).clone(),
        };
        let svid = self.svid.as_ref().filter(|_| with_svid);
        let pinned = matches!(rule, ServerRule::Pinned { .. });
        let credentials = Credentials { rule, bundles: &self.bundles, svid };
        let reached =
            dial::any(&endpoint, self.expected.id, &self.hosts, &self.setbacks, credentials).await?;
        match (reached, &self.token) {
            (Ok(reached), _) => Ok(reached),
            (Err(causes), Some(token)) if pinned && causes.is_wrong_root() => {
                Err(JoinError::WrongRoot { token: token.core.id_text(), causes: causes.to_string() }.into())
            }
            (Err(causes), Some(token)) if pinned && causes.is_wrong_domain() => Err(JoinError::OtherDomain {
                token: token.core.id_text(),
                trust_domain: self.expected.trust_domain.clone(),
                causes: causes.to_string(),
            }
            .into()),
            (Err(causes), _) => Err(Setback::Retry(causes.to_string())),
        }
    }

    /// Opens the stream and checks who welcomes, and when.
    async fn greet(&self, reached: &Reached, workload: Option<WorkloadId>) -> Result<Exchange, Setback> {
        let opened = Exchange::open(&reached.connection, workload).await;
        let exchange = opened.map_err(|fault| judge(fault, "be greeted", reached))?;
        let (found, ours) = (&exchange.welcome.cluster, unix(SystemTime::now()));
        if found.id != self.expected.id || found.trust_domain != self.expected.trust_domain {
            return Err(JoinError::WrongCluster {
                peer: reached.peer.clone(),
                found: Box::new(found.clone()),
                expected: self.expected.id.get(),
                expected_domain: self.expected.trust_domain.clone(),
            }
            .into());
        }
        let theirs = exchange.welcome.unix_time;
        if !clocks_agree(ours, theirs) {
            return Err(JoinError::Clock { peer: reached.peer.clone(), ours, theirs }.into());
        }
        Ok(exchange)
    }
}

/// Whether two clocks, in seconds since 1970, are within the slack of certificates.
pub(crate) fn clocks_agree(ours: u64, theirs: u64) -> bool {
    Duration::from_secs(ours.abs_diff(theirs)) <= CLOCK_SLACK
}

/// Whether another try may succeed after `fault`.
fn judge(fault: Fault, what: &'static str, reached: &Reached) -> Setback {
    let peer = reached.peer.clone();
    match fault {
        Fault::Refused(refusal) if !is_transient(&refusal.reason) => {
            let (reason, message) = (refusal.reason, refusal.message);
            Setback::Final(JoinError::Refused { peer, what, reason, message })
        }
        Fault::Stream(FrameError::Connection(error)) if says_revoked(&error) => {
            Setback::Final(JoinError::Revoked { cause: close_reason_text(&error) })
        }
        Fault::Stream(error) if is_final_close(error.reason()) => {
            let (reason, message) = (error.reason().to_owned(), error.to_string());
            Setback::Final(JoinError::Refused { peer, what, reason, message })
        }
        Fault::Stream(error) if error.reason() == "tls-failed" => Setback::Retry(format!(
            "{peer}: {error}; if the cluster was rebuilt, delete the state folder and give a new token"
        )),
        fault => Setback::Retry(format!("{peer}: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_the_slack_of_certificates() {
        assert!(clocks_agree(1_000, 1_300) && clocks_agree(1_300, 1_000));
        assert!(!clocks_agree(1_000, 1_301) && !clocks_agree(0, u64::MAX));
    }
}
