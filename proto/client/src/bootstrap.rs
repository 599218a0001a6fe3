//! The start: from a token or a saved identity to the keys of this start.
//!
//! Owns what is checked before anything is sent, and the retrying: that no gateway can be reached is waited out, a refusal
//! is not. How gateways are dialled and asked is in the modules below.

mod checks;
mod dial;
mod enroll;
mod issue;

pub(crate) use enroll::{Enroller, Setback, clocks_agree};
pub(crate) use issue::accept as accept_issue;

use crate::config::ClientConfig;
use crate::error::JoinError;
use crate::state::{Known, Saved, StateDir};
use crate::throttle::Throttle;
use crate::trust::believed;
use causeway_identity::{BundleStore, KeyPair, Svid, SvidSource, TrustBundle};
use causeway_model::{ClusterFacts, ClusterId, Revision, TrustDomain, Vip, VipName};
use causeway_runtime::Backoff;
use causeway_transport::TransportSettings;
use causeway_wire::ctl::Attached;
use causeway_wire::view::ServiceView;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often a waiting sidecar says that it waits.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// The shortest and the longest wait between rounds over the gateways.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A sidecar that has an identity and the keys of this start.
pub struct Joined {
    pub(crate) config: ClientConfig,
    pub(crate) svid: SvidSource,
    pub(crate) bundles: BundleStore,
    /// The revision that `bundles` are of.
    pub(crate) trust: Revision,
    pub(crate) cluster: ClusterFacts,
    pub(crate) attached: Attached,
    pub(crate) services: Vec<ServiceView>,
    pub(crate) vips: Vec<(VipName, Vip)>,
    pub(crate) state: Option<Arc<StateDir>>,
    pub(crate) enroller: Enroller,
}

impl Joined {
    /// Its identity; what it renews later is seen through it too.
    pub fn svid(&self) -> &SvidSource {
        &self.svid
    }

    /// Whom it believes.
    pub fn bundles(&self) -> &BundleStore {
        &self.bundles
    }

    /// Its cluster.
    pub fn cluster(&self) -> &ClusterFacts {
        &self.cluster
    }

    /// What the gateway gave it: instance id, keys, gateways.
    pub fn attached(&self) -> &Attached {
        &self.attached
    }
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined")
            .field("id", self.svid.current().id())
            .field("cluster", &self.cluster.name)
            .field("workload", &self.attached.workload)
            .finish_non_exhaustive()
    }
}

/// The cluster that is to be joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) id: ClusterId,
    pub(crate) trust_domain: TrustDomain,
}

/// Makes the sidecar a member of its cluster: joins with the token unless there is a saved identity that still lives, and
/// attaches. `ip` is the overlay's: a free UDP port of it is used. Waits for as long as no gateway can be reached, and says so in
/// the log; drop the future to give up. Call it on a tokio runtime.
///
/// # Errors
/// A [`JoinError`] when waiting would not help.
pub async fn bootstrap(
    config: ClientConfig,
    ip: IpAddr,
    settings: &TransportSettings,
) -> Result<Joined, JoinError> {
    checks::services(&config)?;
    let (state, saved) = match &config.state_dir {
        Some(dir) => {
            let (state, saved) = StateDir::open(dir, config.lock.clone())?;
            (Some(Arc::new(state)), saved)
        }
        None => (None, Saved::default()),
    };
    checks::same_cluster(&config, saved.known.as_ref())?;
    let identity = checks::usable_identity(&config, &saved, SystemTime::now())?;
    let key = match (&state, &identity) {
        (Some(state), None) => state.join_key()?,
        (state, _) => {
            // of a start that ended just before it would have done this
            state.iter().for_each(|state| state.forget_join_key());
            KeyPair::generate()?
        }
    };
    let trust = saved.known.as_ref().map_or_else(Revision::default, |known| known.trust);
    let vips = saved.known.as_ref().map(|known| known.vips.clone()).unwrap_or_default();
    let (bundles, services, enroller) = prepare(&config, ip, settings, saved.known, (key, identity))?;
    let mut start = Start { config, bundles, trust, services, vips, state, enroller, revoked: false };
    let (cluster, attached) = start.until_attached().await?;
    start.enroller.close();
    let svid = start.enroller.svid()?;
    let Start { config, bundles, trust, services, vips, state, enroller, .. } = start;
    let joined = Joined { config, svid, bundles, trust, cluster, attached, services, vips, state, enroller };
    tracing::info!(
        id = %joined.svid.current().id(),
        cluster = %joined.cluster.name,
        workload = %joined.attached.workload,
        "attached to the cluster"
    );
    Ok(joined)
}

fn prepare(
    config: &ClientConfig,
    ip: IpAddr,
    settings: &TransportSettings,
    known: Option<Known>,
    (key, identity): (KeyPair, Option<Svid>),
) -> Result<(BundleStore, Vec<ServiceView>, Enroller), JoinError> {
    let bundles = BundleStore::new();
    let saved_bundles: Vec<TrustBundle> = known.iter().flat_map(|known| known.bundles.clone()).collect();
    bundles.replace_all(saved_bundles)?;
    let expected = checks::expected(config, known.as_ref())?;
    let gateways = known.as_ref().map_or(&[][..], |known| &known.gateways);
    let hosts = dial::hosts(gateways, config.token.as_ref());
    if let (true, Some(token)) = (hosts.is_empty(), &config.token) {
        let (token, cluster) = (token.core.id_text(), token.core.cluster.clone());
        return Err(JoinError::NoGateway { token, cluster });
    }
    let svid = identity.map(SvidSource::new);
    let enroller = Enroller::new(
        expected,
        config.token.clone(),
        hosts,
        key,
        svid,
        bundles.clone(),
        ip,
        settings.clone(),
    );
    Ok((bundles, known.map(|known| known.services).unwrap_or_default(), enroller))
}

/// A start that is under way.
struct Start {
    config: ClientConfig,
    bundles: BundleStore,
    trust: Revision,
    services: Vec<ServiceView>,
    vips: Vec<(VipName, Vip)>,
    state: Option<Arc<StateDir>>,
    enroller: Enroller,
    /// The saved identity was refused as revoked, and given up.
    revoked: bool,
}

impl Start {
    async fn until_attached(&mut self) -> Result<(ClusterFacts, Attached), JoinError> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut say = Throttle::new(SAY_EVERY);
        loop {
            match self.once().await {
                Ok(done) => return Ok(done),
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::Retry(cause)) if say.pass(Instant::now()) => tracing::warn!(
                    cluster = %self.enroller.expected().trust_domain,
                    cause,
                    "no gateway takes this sidecar yet; it keeps trying"
                ),
                Err(Setback::Retry(_)) => {}
            }
            tokio::time::sleep(backoff.next_delay(rand::random())).await;
        }
    }

    async fn once(&mut self) -> Result<(ClusterFacts, Attached), Setback> {
        checks::token_alive(&self.config, self.enroller.needs_to_join(), SystemTime::now())?;
        if let Some(member) = self.enroller.join_if_needed().await? {
            if !member.trusted_before {
                self.trust = Revision::default();
            }
            self.save(&member.cluster, &[])?;
            if let Some(state) = &self.state {
                state.save_identity(&self.enroller.svid()?.current()).map_err(JoinError::from)?;
                state.forget_join_key();
            }
        }
        let attached = self.enroller.attach(None).await;
        if let Err(Setback::Final(JoinError::Revoked { cause })) = &attached {
            self.give_up_identity(cause)?;
            return Err(Setback::Retry("the saved identity was revoked".to_owned()));
        }
        let (cluster, attached) = attached?;
        self.save(&cluster, &attached.gateways)?;
        Ok((cluster, attached))
    }

    /// After the saved identity was refused as revoked: the next try joins with the token, once.
    fn give_up_identity(&mut self, cause: &str) -> Result<(), JoinError> {
        let token = self.config.token.as_ref().filter(|_| !self.revoked);
        let Some(token) = token else { return Err(JoinError::Revoked { cause: cause.to_owned() }) };
        checks::token_fits(token, &self.config)?;
        tracing::warn!(
            cause,
            token = token.core.id_text(),
            "this workload's SVID was revoked, joining again with the token"
        );
        self.revoked = true;
        self.enroller.forget_identity(
            self.state.as_ref().map_or_else(|| Ok(KeyPair::generate()?), |state| state.join_key())?,
        );
        Ok(())
    }

    fn save(
        &self,
        cluster: &ClusterFacts,
        gateways: &[causeway_model::GatewayFacts],
    ) -> Result<(), JoinError> {
        let Some(state) = &self.state else { return Ok(()) };
        let known = Known {
            cluster: cluster.clone(),
            bundles: believed(&self.bundles),
            trust: self.trust,
            gateways: gateways.to_vec(),
            services: self.services.clone(),
            vips: self.vips.clone(),
        };
        Ok(state.save_known(&known)?)
    }
}

#[cfg(test)]
mod tests;
