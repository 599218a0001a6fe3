//! The session with an attached sidecar.

use super::limits::Limits;
use super::tell::Told;
use super::vips::VipAsks;
use super::{Metered, Out, SessionError, issue, register};
use crate::authority;
use crate::hub::{Change, Held, Hub, Meter, RootId};
use crate::watched::Watched;
use causeway_identity::{CertificateDer, Standing};
use causeway_model::{ClusterId, ServiceName, SpiffeId, WorkloadId};
use causeway_presence::Row;
use causeway_transport::Connection;
use causeway_wire::ctl::{
    Draining, InstancesGone, Issued, MAX_SUBSCRIPTIONS, MAX_WATCHED, Registered, RenewNow, ToGateway,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// Who is at the other end.
pub(super) struct Sidecar {
    pub(super) identity: SpiffeId,
    pub(super) workload: WorkloadId,
    pub(super) release: String,
    /// SHA-256 of the keys of its SVIDs, the newest first: of that which it attached with, and of those it was issued over this
    /// session since; at most one more than [`Row::MAX_OLDER_KEYS`](causeway_presence::Row::MAX_OLDER_KEYS).
    pub(super) svid_keys: Vec<[u8; 32]>,
}

pub(super) struct Session<'h> {
    pub(super) hub: &'h Hub,
    pub(super) sidecar: Sidecar,
    pub(super) out: Out,
    pub(super) told: Told,
    limits: Limits,
    pub(super) subscribed: BTreeSet<ServiceName>,
    pub(super) serves: BTreeSet<ServiceName>,
    pub(super) registered: bool,
    /// Instances of this cluster that the sidecar is connected to.
    local: Watched,
    /// The root that its SVID chains to, as it last said, and the one that it was asked to renew for.
    root: Option<RootId>,
    asked: Option<RootId>,
    pub(super) connection: Connection,
    held: Held,
    /// Instances of linked clusters that it is connected to.
    remote: BTreeSet<(ClusterId, WorkloadId)>,
    pub(super) vips: VipAsks,
}

pub(super) async fn run(
    hub: &Hub,
    connection: &Connection,
    (sidecar, standing): (Sidecar, Option<Standing>),
    out: Out,
    metered: &mut Metered,
) -> Result<(), SessionError> {
    let mut changes = hub.changes();
    let held = hub.hold(&sidecar.identity, sidecar.workload, standing)?;
    let (vips, mut vip_answers) = VipAsks::new();
    let mut session = Session {
        hub,
        sidecar,
        out,
        told: Told::default(),
        limits: Limits::new(),
        subscribed: BTreeSet::new(),
        serves: BTreeSet::new(),
        registered: false,
        local: Watched::of_process(Instant::now(), hub.up()),
        root: None,
        asked: None,
        connection: connection.clone(),
        held,
        remote: BTreeSet::new(),
        vips,
    };
    session.tell_cluster().await?;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let draining = hub.drain.started();
    tokio::pin!(draining);
    let (mut drained, mut told) = (false, false);
    loop {
        metered.note();
        let out_of_use = hub.catalog().is_draining(hub.node.id());
        if out_of_use && !std::mem::replace(&mut told, true) {
            session.out.send(Draining {}).await?;
        }
        told &= out_of_use;
        let now = Instant::now();
        let resume = session.limits.resume_at(now);
        tokio::select! {
            // what is not read stays with the sidecar: nothing is lost, and the rest of the session goes on
            message = metered.input.next::<ToGateway>(), if resume.is_none() => match message? {
                Some(ToGateway::Goodbye(_)) => {
                    hub.goodbye(session.sidecar.workload);
                    return Ok(());
                }
                Some(message) => session.take(message, &metered.meter).await?,
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(resume.unwrap_or(now).into()), if resume.is_some() => {}
            change = changes.recv() => match change {
                Ok(change) => session.follow(change).await?,
                Err(RecvError::Lagged(_)) => session.tell_everything().await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            // the session has a sender of its own, so this never ends
            Some(answer) = vip_answers.recv() => session.vip_answered(answer).await?,
            _ = tick.tick() => session.tell_gone().await?,
            () = &mut draining, if !drained => {
                drained = true;
                session.out.send(Draining {}).await?;
            }
            _ = connection.closed() => return Ok(()),
        }
    }
}

impl Session<'_> {
    /// Charges for `message` and does what it asks for.
    async fn take(&mut self, message: ToGateway, meter: &Meter) -> Result<(), SessionError> {
        let fresh = match &message {
            ToGateway::Subscribe(subscribe) => {
                subscribe.services.iter().filter(|name| !self.subscribed.contains(*name)).count()
            }
            _ => 0,
        };
        if self.limits.charge(Instant::now(), &message, fresh) {
            meter.delayed();
        }
        self.hear(message).await
    }

    async fn hear(&mut self, message: ToGateway) -> Result<(), SessionError> {
        let workload = self.sidecar.workload;
        self.hub.seen(workload);
        match message {
            ToGateway::Register(request) => match register::register(self.hub, &self.sidecar, &request).await
            {
                Ok(()) => {
                    self.serves = request.services.into_iter().map(|served| served.name).collect();
                    self.registered = true;
                    self.out.send(Registered { request: request.request }).await?;
                    self.tell_exported().await
                }
                Err(refused) => {
                    tracing::warn!(
                        %workload, identity = %self.sidecar.identity, reason = refused.reason,
                        "registration refused: {}", refused.message
                    );
                    self.out.send(refused).await
                }
            },
            // a sidecar that was cut off for long asks for the keys of today
            ToGateway::Attach(attach) => match issue::attached(self.hub, workload, &attach) {
                Ok(attached) => self.out.send(attached).await,
                Err(refused) => self.out.send(refused).await,
            },
            ToGateway::Renew(request) => {
                match issue::renew(self.hub, &self.connection, &self.sidecar.identity, &request).await {
                    Ok(issued) => {
                        self.renewed(&issued);
                        self.out.send(issued).await
                    }
                    Err(refused) => self.out.send(refused).await,
                }
            }
            ToGateway::ReportHealth(report) => {
                self.hub.health(workload, &report.service, report.health);
                Ok(())
            }
            ToGateway::Subscribe(subscribe) => {
                bounded("subscriptions", subscribe.services.len(), MAX_SUBSCRIPTIONS)?;
                self.subscribed = subscribe.services.into_iter().collect();
                self.told.forget_services_but(&self.subscribed);
                self.tell_new_services().await
            }
            ToGateway::WatchInstances(watch) => {
                bounded("watched instances", watch.instances.len(), MAX_WATCHED)?;
                let own = self.hub.node.cluster().id;
                let (local, remote): (Vec<_>, Vec<_>) =
                    watch.instances.into_iter().partition(|(cluster, _)| *cluster == own);
                let local = local.into_iter().map(|(_, instance)| instance);
                self.local.set(Instant::now(), local, |instance| self.hub.is_alive(instance));
                self.remote = remote.into_iter().collect();
                self.update_wants();
                self.tell_gone().await
            }
            ToGateway::Trust(report) => {
                let root = report.root;
                self.hub.trust_reported(workload, report);
                self.root = Some(root);
                self.tell_renew().await
            }
            ToGateway::AskVip(ask) => self.ask_vip(ask).await,
            ToGateway::FindVip(find) => self.find_vip(find).await,
            ToGateway::Hello(_) | ToGateway::Join(_) | ToGateway::Goodbye(_) => {
                Err(SessionError::Protocol("an attached sidecar may not say hello or join again".into()))
            }
        }
    }

    /// What was issued counts as the sidecar's, whether or not it arrives: who revokes the workload means that, too.
    fn renewed(&mut self, issued: &Issued) {
        let chain: Vec<CertificateDer<'_>> =
            issued.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        match self.hub.node.bundles().standing(&chain) {
            Ok(standing) => {
                let key = *standing.key();
                self.sidecar.svid_keys.insert(0, key);
                self.sidecar.svid_keys.truncate(1 + Row::MAX_OLDER_KEYS);
                self.hub.renewed(self.sidecar.workload, key);
                self.held.renewed(standing);
            }
            Err(error) => tracing::warn!(%error, "an SVID that was just issued is not good here"),
        }
    }

    async fn follow(&mut self, change: Change) -> Result<(), SessionError> {
        match change {
            Change::Catalog => {
                self.tell_cluster().await?;
                self.tell_renew().await?;
                self.tell_exported().await?;
                self.tell_services().await
            }
            Change::Service(name) if self.subscribed.contains(&name) => {
                self.tell_service(&name).await?;
                self.update_wants();
                Ok(())
            }
            Change::Gone(workload) => {
                self.local.handle_gone(workload);
                self.tell_gone().await
            }
            Change::PeerGone(cluster, workload) if self.remote.remove(&(cluster, workload)) => {
                self.out.send(InstancesGone { instances: vec![(cluster, workload)] }).await
            }
            Change::PeerGone(..) => Ok(()),
            Change::Service(_) | Change::Wants(_) => Ok(()),
        }
    }

    /// After changes were missed: everything is looked at anew.
    async fn tell_everything(&mut self) -> Result<(), SessionError> {
        self.tell_cluster().await?;
        self.tell_renew().await?;
        self.tell_exported().await?;
        self.tell_services().await?;
        self.local.check(Instant::now(), |instance| self.hub.is_alive(instance));
        self.update_wants();
        self.tell_gone().await
    }

    /// Asks for a renewal when the cluster signs with another root than that of the sidecar's SVID.
    async fn tell_renew(&mut self) -> Result<(), SessionError> {
        let Some(root) = self.root.and_then(|root| authority::renew_for(&self.hub.catalog(), root)) else {
            return Ok(());
        };
        if self.asked.replace(root) == Some(root) {
            return Ok(());
        }
        let within = authority::spread(self.hub.soft().attached.len());
        self.out
            .send(RenewNow { root, within_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX) })
            .await
    }

    /// Instances of this cluster that are gone, of those the sidecar is connected to.
    async fn tell_gone(&mut self) -> Result<(), SessionError> {
        self.local.handle_timeout(Instant::now(), |instance| self.hub.is_alive(instance));
        let Some(gone) = self.local.take_gone() else { return Ok(()) };
        let own = self.hub.node.cluster().id;
        let instances = gone.into_iter().map(|instance| (own, instance)).collect();
        self.out.send(InstancesGone { instances }).await
    }

    /// What this sidecar wants of linked clusters: endpoints of the services it uses, and word of the instances it talks to.
    pub(super) fn update_wants(&self) {
        let uses = self.told.handles().collect();
        let instances = self.remote.iter().copied().collect();
        self.hub.wants(self.sidecar.workload, uses, instances);
    }
}

fn bounded(what: &str, count: usize, limit: usize) -> Result<(), SessionError> {
    if count <= limit {
        Ok(())
    } else {
        Err(SessionError::Protocol(format!("{count} {what}: at most {limit} are possible")))
    }
}
