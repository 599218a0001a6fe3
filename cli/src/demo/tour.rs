//! The tour of `--check`: what the mesh promises, tried out step by step.
//!
//! A step that fails is told and the tour goes on, so that one run shows everything that is wrong.

use super::http;
use super::load::{self, Load};
use super::mesh::Mesh;
use super::plan::{Cluster, GatewayPlan, SidecarPlan};
use super::report::{Report, ms};
use super::stall::Stall;
use super::verb::{describe, offer};
use super::wait::{self, Not};
use crate::output;
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the load runs before the first kill.
const BEFORE_KILL: Duration = Duration::from_millis(1500);
/// How long after one kill the next comes: more than a stall is looked for.
const BETWEEN_KILLS: Duration = Duration::from_millis(2500);
/// How soon a dead endpoint must have left every answer.
const GONE: Duration = Duration::from_secs(2);
/// How soon a change must be refused when the registry has no quorum.
const REFUSED: Duration = Duration::from_secs(5);
/// How long is waited for what has no limit of its own.
const LIMIT: Duration = Duration::from_secs(10);
/// How many requests are made, each over a new connection, to see that an endpoint is used or not.
const FRESH: usize = 50;
/// The endpoint that is lost and comes back.
const LOST: SidecarPlan = SidecarPlan { cluster: Cluster::Phx, number: 2 };

/// A tour that goes on.
pub(super) struct Tour<'a> {
    mesh: &'a mut Mesh,
    report: Report,
}

/// Makes the tour, with so many rounds of kills; returns whether all was as it should be, and the summary.
pub(super) async fn make(mesh: &mut Mesh, rounds: u8) -> Result<(bool, String)> {
    let mut tour = Tour { mesh, report: Report::new(output::say) };
    tour.step("curl both ways", Tour::curl).await?;
    tour.step("causeway services --context iad", Tour::services).await?;
    for round in 1..=rounds {
        tour.round(round, 1).await?;
        if round == 1 {
            tour.without_voters().await?;
        }
        tour.step("the voters start again", async |tour| tour.restart(1).await).await?;
        tour.round(round, 2).await?;
        tour.step("the learners start again", async |tour| tour.restart(2).await).await?;
    }
    Ok((tour.report.is_fine(), tour.report.summary()))
}

impl Tour<'_> {
    /// Does one step; a failure of it is told and counted.
    async fn step(&mut self, title: &str, step: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.report.step(title)?;
        match step(self).await {
            Ok(()) => Ok(()),
            // nobody reads any more
            Err(error) if error.is::<output::OutputClosed>() => Err(error),
            Err(error) => {
                self.report.failed(format!("{error:#}"))?;
                let tails = self.mesh.log_tails();
                self.report.saw(&tails)
            }
        }
    }

    async fn curl(&mut self) -> Result<()> {
        for cluster in Cluster::BOTH {
            let (to, start) = (cluster.entrance(), Instant::now());
            let said = http::text(to, "/").await?;
            let took = ms(start.elapsed());
            self.report.saw(&format!(
                "in {cluster}: curl http://{to}/  ({took})\n  {}",
                said.replace('\n', "\n  ")
            ))?;
            let expected = format!("hello from {} in {}", cluster.other().service(), cluster.other());
            ensure!(said.starts_with(&expected), "the answer does not begin with {expected:?}");
        }
        Ok(())
    }

    async fn services(&mut self) -> Result<()> {
        self.payments_at(Cluster::Iad.name()).await
    }

    /// Looks at payments.shop through a gateway of iad.
    async fn payments_at(&mut self, context: &str) -> Result<()> {
        let (phx, name) = (Cluster::Phx, Cluster::Phx.service());
        let services = self.mesh.place.services(context).await?;
        let offer =
            offer(&services, name, phx.name()).with_context(|| format!("{name} of {phx} is not listed"))?;
        self.report.saw(&describe(name, offer))?;
        ensure!(offer.region == phx.region(), "the region is not {}", phx.region());
        ensure!(offer.zones == [phx.zone()], "the zone is not {}", phx.zone());
        ensure!(offer.origin == "imported", "the origin is not imported");
        let endpoints = u32::from(phx.endpoints());
        ensure!(
            (offer.healthy, offer.total) == (endpoints, endpoints),
            "not {endpoints}/{endpoints} healthy"
        );
        ensure!(offer.stale_for.is_none(), "the link has been silent");
        Ok(())
    }

    /// Load on the mesh, while the gateways with this number are killed.
    async fn round(&mut self, round: u8, number: u8) -> Result<()> {
        let who = if number == 1 { "voter" } else { "learner" };
        let title = format!(
            "round {round}: {} concurrent requests (each {} ms at the service) and a download of {} MB (at {} MB/s), while a {who} \
             of each cluster is killed",
            load::REQUESTS,
            load::SERVICE_MS,
            load::DOWNLOAD / 1_000_000,
            load::RATE / 1_000_000
        );
        self.step(&title, async |tour| tour.kills(number).await).await
    }

    async fn kills(&mut self, number: u8) -> Result<()> {
        let load = Load::start().await?;
        let mut kills = Vec::new();
        sleep(BEFORE_KILL).await;
        for cluster in Cluster::BOTH {
            let gateway = GatewayPlan { cluster, number };
            if !load.is_downloading() {
                self.report.failed(format!("the download ended before the kill of {}", gateway.name()))?;
            }
            kills.push((gateway.name(), load.now()));
            self.mesh.gateway(gateway)?.kill()?;
            sleep(BETWEEN_KILLS).await;
        }
        let outcome = load.finish().await;
        self.report.outcome(&outcome)?;
        let ticks: Vec<_> = outcome.ticks.into_iter().filter_map(Result::ok).collect();
        let download = outcome.download.unwrap_or_default();
        for (name, at) in kills {
            self.report.stall(Stall::of(name, at, &ticks, &download))?;
        }
        Ok(())
    }

    /// What still works, and what does not, while no voter runs.
    async fn without_voters(&mut self) -> Result<()> {
        let learner = GatewayPlan { cluster: Cluster::Iad, number: 2 }.context();
        let title = format!("no voter runs: causeway services --context {learner}");
        self.step(&title, async |tour| {
            tour.mesh.found(Cluster::Phx, LIMIT).await?;
            tour.payments_at(&learner).await?;
            tour.curl().await
        })
        .await?;
        self.step("no voter runs: a change is refused", async |tour| tour.refused(&learner).await).await?;
        self.step(&format!("no voter runs: the endpoint {} is killed", LOST.name()), Tour::lose).await?;
        self.step(&format!("no voter runs: {} starts again, without a token", LOST.name()), Tour::regain)
            .await
    }

    async fn refused(&mut self, context: &str) -> Result<()> {
        let said = self.mesh.place.verb(&["export", Cluster::Iad.service(), "--context", context]).await?;
        self.report.saw(&format!("exit code {:?} after {}\n{}", said.code, ms(said.took), said.err))?;
        ensure!(said.code == Some(1), "the exit code is not 1");
        ensure!(said.err.contains("no-quorum"), "the error does not say no-quorum");
        ensure!(said.took < REFUSED, "it took longer than {REFUSED:?}");
        Ok(())
    }

    async fn lose(&mut self) -> Result<()> {
        self.mesh.sidecar(LOST)?.kill()?;
        let took = self.mesh.found(LOST.cluster, LIMIT).await?;
        self.report.saw(&format!("it left every gateway's answers after {}", ms(took)))?;
        if took > GONE {
            bail!("that is longer than {GONE:?}");
        }
        let answered = load::fresh_requests(Cluster::Iad.entrance(), FRESH).await?;
        ensure!(!answered.contains(&LOST.name()), "a dead endpoint answered");
        self.report.saw(&format!("{FRESH} requests over new connections: all answered, by the other one"))
    }

    async fn regain(&mut self) -> Result<()> {
        let start = Instant::now();
        self.mesh.start_sidecar(LOST, None)?;
        self.mesh.sidecar(LOST)?.ready().await?;
        self.report.saw(&format!("ready after {}", ms(start.elapsed())))?;
        self.mesh.found(LOST.cluster, LIMIT).await?;
        self.report.saw(&format!("in every gateway's answers after {}", ms(start.elapsed())))?;
        wait::until(&format!("{} answers a request from iad", LOST.name()), LIMIT, async || {
            let answered = load::fresh_requests(Cluster::Iad.entrance(), 5).await?;
            if answered.contains(&LOST.name()) { Ok(()) } else { Err(Not::Yet(answered.join(", "))) }
        })
        .await?;
        self.report.saw(&format!("answered a request from iad after {}", ms(start.elapsed())))
    }

    /// Starts the gateways with this number again, with what they had on disk.
    async fn restart(&mut self, number: u8) -> Result<()> {
        let start = Instant::now();
        self.mesh.start_gateways(|plan| plan.number == number, false).await?;
        self.report.saw(&format!("ready after {}", ms(start.elapsed())))?;
        let (_, last) = self.mesh.settled().await?;
        self.report.saw(&format!("every gateway knows every endpoint after {} ({last})", ms(start.elapsed())))
    }
}
