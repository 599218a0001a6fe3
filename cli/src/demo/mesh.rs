//! The two clusters as running processes: brought up with the CLI's own verbs, looked at through them, and ended.

use super::child::{Child, Place};
use super::guardian::Guardian;
use super::plan::{self, Cluster, GatewayPlan, SidecarPlan};
use super::service::Services;
use super::verb::offer;
use super::wait::{self, Not};
use super::{http, ports};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long it may take until every gateway knows every endpoint.
const SETTLE: Duration = Duration::from_secs(15);
/// How long processes may take to end when asked to.
const STOP: Duration = Duration::from_secs(8);
/// How many gateways a sidecar is attached to, if there are that many.
const ATTACHMENTS: usize = 2;
/// How many lines of each log are shown when something failed.
const TAIL: usize = 8;

/// The processes of the demo. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) place: Place,
    pub(super) gateways: Vec<(GatewayPlan, Child)>,
    pub(super) sidecars: Vec<(SidecarPlan, Child)>,
    services: Services,
}

impl Mesh {
    /// Two clusters with so many gateways each, of which nothing runs yet but the workloads; `dir` is for what they write.
    pub(super) fn new(dir: PathBuf, gateways_per_cluster: u8) -> Result<Self> {
        let exe = std::env::current_exe().context("cannot find this program's file")?;
        let guardian = Arc::new(Guardian::start(&exe)?);
        let (gateways, sidecars) = (plan::gateways(gateways_per_cluster), plan::sidecars());
        let services = Services::start(sidecars.clone())?;
        let child = |name, telemetry| Child::new(name, telemetry, &dir, guardian.clone());
        let gateways: Vec<_> =
            gateways.into_iter().map(|plan| (plan, child(plan.name(), plan.telemetry()))).collect();
        let sidecars: Vec<_> =
            sidecars.into_iter().map(|plan| (plan, child(plan.name(), plan.telemetry()))).collect();
        ports::check(gateways.iter().map(|(plan, _)| *plan), sidecars.iter().map(|(plan, _)| *plan))?;
        Ok(Self { place: Place { exe, dir }, gateways, sidecars, services })
    }

    /// Starts everything, links the clusters, exports both services, and returns when a call works both ways.
    pub(super) async fn bring_up(&mut self) -> Result<()> {
        self.start_gateways(GatewayPlan::votes, false).await?;
        self.start_gateways(|plan| !plan.votes(), true).await?;
        for cluster in Cluster::BOTH {
            self.start_sidecars(cluster).await?;
        }
        self.link().await?;
        for cluster in Cluster::BOTH {
            let export =
                ["export", cluster.service(), "--to", cluster.other().name(), "--context", cluster.name()];
            self.place.out(&export).await?;
        }
        for (_, child) in &mut self.sidecars {
            child.ready().await?;
        }
        self.settled().await?;
        for cluster in Cluster::BOTH {
            let what = format!("{} answers in {cluster}", cluster.other().service());
            wait::until(&what, SETTLE, async || Ok(http::text(cluster.entrance(), "/").await?)).await?;
        }
        Ok(())
    }

    /// Starts those gateways, with a token if they are to join, and waits until they are ready.
    pub(super) async fn start_gateways(
        &mut self,
        which: impl Fn(GatewayPlan) -> bool,
        join: bool,
    ) -> Result<()> {
        for (plan, child) in self.gateways.iter_mut().filter(|(plan, _)| which(*plan)) {
            let create = ["token", "create", "--role", "gateway", "--context", plan.cluster.name()];
            let token = if join { Some(self.place.out(&create).await?) } else { None };
            let mut command = self.place.command();
            command.args(plan.args(&self.place.dir, token.as_deref()));
            child.start(command)?;
        }
        for (_, child) in self.gateways.iter_mut().filter(|(plan, _)| which(*plan)) {
            child.ready().await?;
        }
        Ok(())
    }

    async fn start_sidecars(&mut self, cluster: Cluster) -> Result<()> {
        let (service, uses) = (cluster.service_port(), cluster.endpoints().to_string());
        let create = ["token", "create", "--service", &service, "--uses", &uses, "--context", cluster.name()];
        let token = self.place.out(&create).await?;
        for sidecar in SidecarPlan::of(cluster) {
            self.start_sidecar(sidecar, Some(&token))?;
        }
        Ok(())
    }

    /// Starts a sidecar; without a token it needs the certificate that it has.
    pub(super) fn start_sidecar(&mut self, sidecar: SidecarPlan, token: Option<&str>) -> Result<()> {
        let mut command = self.place.command();
        command.args(sidecar.args(&self.place.dir, self.services.addr(sidecar)?));
        if let Some(token) = token {
            command.env("CAUSEWAY_TOKEN", token);
        }
        self.sidecar(sidecar)?.start(command)
    }

    async fn link(&self) -> Result<()> {
        let (iad, phx) = (Cluster::Iad.name(), Cluster::Phx.name());
        let token = self.place.out(&["link", "invite", "--for", phx, "--context", iad]).await?;
        self.place.out(&["link", "accept", &token, "--context", phx]).await?;
        Ok(())
    }

    /// Waits until every gateway that runs knows every endpoint that runs, and every sidecar is attached as it should be;
    /// returns how long it took and what came last.
    pub(super) async fn settled(&self) -> Result<(Duration, String)> {
        let what = "every gateway knows every endpoint, and every sidecar is attached";
        let mut last = "at once".to_owned();
        let ((), took) = wait::until(what, SETTLE, async || {
            for gateway in self.running_gateways() {
                if let Err(Not::Yet(missing)) = self.knows_all(gateway).await {
                    last = format!("last was {missing}");
                    return Err(Not::Yet(missing));
                }
            }
            Ok(())
        })
        .await?;
        Ok((took, last))
    }

    /// Waits until every gateway that runs has just the endpoints that run in its answers.
    pub(super) async fn found(&self, cluster: Cluster, limit: Duration) -> Result<Duration> {
        let what = format!(
            "every gateway knows {} endpoint(s) of {}",
            self.running_sidecars(cluster),
            cluster.service()
        );
        let ((), took) = wait::until(&what, limit, async || {
            for gateway in self.running_gateways() {
                self.knows(gateway, cluster).await?;
            }
            Ok(())
        })
        .await?;
        Ok(took)
    }

    async fn knows_all(&self, gateway: GatewayPlan) -> Result<(), Not> {
        for cluster in Cluster::BOTH {
            self.knows(gateway, cluster).await?;
        }
        let of_cluster = self.running_gateways().filter(|other| other.cluster == gateway.cluster).count();
        let wanted = ATTACHMENTS.min(of_cluster);
        let workloads = self.place.workloads(&gateway.context()).await?;
        match workloads.iter().find(|workload| workload.gateways.len() < wanted) {
            None => Ok(()),
            Some(one) => Err(Not::Yet(format!(
                "{}: {} is attached to {} of {wanted} gateways",
                gateway.name(),
                one.identity,
                one.gateways.len()
            ))),
        }
    }

    async fn knows(&self, gateway: GatewayPlan, cluster: Cluster) -> Result<(), Not> {
        let services = self.place.services(&gateway.context()).await?;
        let running = self.running_sidecars(cluster);
        let name = gateway.name();
        let Some(offer) = offer(&services, cluster.service(), cluster.name()) else {
            return Err(Not::Yet(format!("{name} does not know {} of {cluster}", cluster.service())));
        };
        if (offer.healthy, offer.total, offer.stale_for) == (running, running, None) {
            return Ok(());
        }
        Err(Not::Yet(format!("{name}: {}", super::verb::describe(cluster.service(), offer))))
    }

    /// The gateways that run.
    pub(super) fn running_gateways(&self) -> impl Iterator<Item = GatewayPlan> {
        self.gateways.iter().filter(|(_, child)| child.pid().is_some()).map(|(plan, _)| *plan)
    }

    fn running_sidecars(&self, cluster: Cluster) -> u32 {
        let running =
            self.sidecars.iter().filter(|(plan, child)| plan.cluster == cluster && child.pid().is_some());
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }

    /// A gateway's process.
    pub(super) fn gateway(&mut self, wanted: GatewayPlan) -> Result<&mut Child> {
        let found = self.gateways.iter_mut().find(|(plan, _)| *plan == wanted);
        found.map(|(_, child)| child).with_context(|| format!("there is no gateway {}", wanted.name()))
    }

    /// A sidecar's process.
    pub(super) fn sidecar(&mut self, wanted: SidecarPlan) -> Result<&mut Child> {
        let found = self.sidecars.iter_mut().find(|(plan, _)| *plan == wanted);
        found.map(|(_, child)| child).with_context(|| format!("there is no sidecar {}", wanted.name()))
    }

    /// Every process.
    pub(super) fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        let gateways = self.gateways.iter_mut().map(|(_, child)| child);
        gateways.chain(self.sidecars.iter_mut().map(|(_, child)| child))
    }

    /// Asks every process to end, the sidecars first; returns those that had to be killed.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let mut killed = stop(self.sidecars.iter_mut().map(|(_, child)| child).collect()).await;
        killed.extend(stop(self.gateways.iter_mut().map(|(_, child)| child).collect()).await);
        killed
    }

    /// The last lines of every log.
    pub(super) fn log_tails(&mut self) -> String {
        let mut text = String::new();
        for child in self.children() {
            let state = child.pid().map_or("does not run".to_owned(), |pid| format!("pid {pid}"));
            text.push_str(&format!("--- {} ({state}), the last lines of its log\n", child.name()));
            for line in child.log_tail(TAIL) {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }
}

async fn stop(mut children: Vec<&mut Child>) -> Vec<String> {
    children.retain_mut(|child| child.ended().is_none() && child.pid().is_some());
    for child in &children {
        child.terminate();
    }
    let _ = wait::until("the processes end", STOP, async || {
        children.retain_mut(|child| child.ended().is_none());
        if children.is_empty() { Ok(()) } else { Err(Not::Yet(format!("{} run", children.len()))) }
    })
    .await;
    for child in &mut children {
        let _ = child.kill();
    }
    children.iter().map(|child| child.name().to_owned()).collect()
}
