//! The parts that carry traffic, put together on the data thread.

use super::Listeners;
use super::capture::CaptureSockets;
use super::control::{Discovered, policy};
use super::data::DataThread;
use super::quiet::Quiet;
use crate::balance::Balances;
use crate::choose::Chooser;
use crate::config::SidecarConfig;
use crate::descriptors::Descriptors;
use crate::direct::Directs;
use crate::health::{self, HealthMetrics};
use crate::inbound::{Callers, Delivery, Inbound};
use crate::membership::Membership;
use crate::metrics::SidecarMetrics;
use crate::outbound::{Connector, Outbound, Pool, Route};
use crate::trust::Trust;
use crate::turn::Turn;
use crate::udp::{FlowLimits, FlowSource, Flows, Routes};
use causeway_client::Control;
use causeway_model::PortKey;
use causeway_runtime::{Drain, Metrics, Readiness, Tasks};
use causeway_transport::{Overlay, OverlayEndpoint};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What traffic is built of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a SidecarConfig,
    pub(super) overlay: &'a Overlay,
    pub(super) endpoint: &'a OverlayEndpoint,
    pub(super) control: &'a Control,
    pub(super) direct: Vec<SocketAddr>,
    pub(super) drain: Drain,
    pub(super) tasks: &'a Tasks,
    pub(super) readiness: &'a Readiness,
    /// Whose turn it is to accept.
    pub(super) turn: &'a Turn,
}

impl Parts<'_> {
    /// Starts both directions on the data thread. The token that is returned cuts outbound connections; the rest knows of inbound ones.
    pub(super) fn start(
        &self,
        data: &DataThread,
        (listeners, datagrams): Listeners,
        capture: CaptureSockets,
        all: &Metrics,
    ) -> anyhow::Result<(CancellationToken, Quiet)> {
        let metrics = SidecarMetrics::new();
        all.registry(|registry| metrics.register(registry));
        let discovered = Arc::new(Discovered::new(self.control.clone()));
        let membership = Arc::new(self.membership(&discovered));
        self.tasks.spawn_critical("trust", membership.trust.clone().run(self.tasks.token()));
        let delivery = Delivery::new(self.config);
        self.check_health(&delivery, all);
        let descriptors = Descriptors::of_process(self.config.limits.reserved_descriptors);
        let inbound = self.inbound(&membership, &metrics, delivery, &descriptors);
        self.tasks.spawn_on(data.handle(), "inbound", inbound.accept(self.endpoint.clone()));
        let cut = self.tasks.token().child_token();
        let outbound = self.outbound(&membership, &metrics, &cut, descriptors);
        for (spec, listener) in listeners {
            let view = discovered.subscribe(&spec.service);
            let name = format!("listen {spec}");
            let (outbound, turn, end) = (Arc::clone(&outbound), self.turn.clone(), self.tasks.token());
            let route = Route { service: spec.service, port: PortKey::tcp(spec.port), view };
            self.tasks.spawn_on(data.handle(), name, async move {
                match turn.mine(&end).await {
                    true => outbound.listen(listener, route).await,
                    false => Ok(()),
                }
            });
        }
        for (spec, socket) in datagrams {
            let view = discovered.subscribe(&spec.service);
            let name = format!("listen {spec}");
            let (outbound, turn, end) = (Arc::clone(&outbound), self.turn.clone(), self.tasks.token());
            let route = Route { service: spec.service, port: PortKey::udp(spec.port), view };
            self.tasks.spawn_on(data.handle(), name, async move {
                if !turn.mine(&end).await {
                    return Ok(());
                }
                let flows = Flows::new(&outbound, FlowSource::port(socket)?, Routes::One(route));
                flows.run(turn.over()).await;
                io::Result::Ok(())
            });
        }
        let runtime = (data, self.tasks, self.turn);
        capture.serve(&self.config.capture, (discovered, outbound), runtime);
        Ok((cut, Quiet::new(&metrics)))
    }

    fn check_health(&self, delivery: &Delivery, all: &Metrics) {
        let metrics = HealthMetrics::default();
        all.registry(|registry| metrics.register(registry));
        let control = self.control.clone();
        let tell = Arc::new(move |service: &_, health| control.report_health(service, health));
        health::start(self.config, delivery, tell, &metrics, (self.tasks, self.readiness));
    }

    fn membership(&self, discovered: &Arc<Discovered>) -> Membership {
        let (cluster, instance) = (self.control.cluster(), self.control.workload());
        Membership {
            cluster: cluster.id,
            trust_domain: cluster.trust_domain,
            instance,
            direct: self.direct.clone(),
            svid: self.control.svid(),
            bundles: self.control.bundles(),
            trust: Trust::new(self.control.bundles(), self.control.svid()),
            directs: Directs::new(instance, self.overlay.clone()),
            discovery: Arc::clone(discovered) as _,
        }
    }

    fn inbound(
        &self,
        membership: &Arc<Membership>,
        metrics: &SidecarMetrics,
        delivery: Delivery,
        descriptors: &Descriptors,
    ) -> Arc<Inbound> {
        let limits = self.config.limits.clone();
        let mut transport = self.config.transport.clone();
        transport.max_streams = transport.max_streams.min(limits.max_streams_per_peer);
        let permits = || Arc::new(Semaphore::new(limits.max_connections as usize));
        Arc::new(Inbound {
            membership: Arc::clone(membership),
            policy: policy(self.control, self.config.services(), self.tasks),
            delivery,
            transport,
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            tasks: self.tasks.clone(),
            peers: permits(),
            callers: Callers::default(),
            streams: permits(),
            flows: FlowLimits::new(&limits),
            descriptors: descriptors.clone(),
            limits,
        })
    }

    fn outbound(
        &self,
        membership: &Arc<Membership>,
        metrics: &SidecarMetrics,
        cut: &CancellationToken,
        descriptors: Descriptors,
    ) -> Arc<Outbound> {
        let limits = self.config.limits.clone();
        let connector = Connector {
            endpoint: self.endpoint.clone(),
            membership: Arc::clone(membership),
            metrics: metrics.clone(),
            tasks: self.tasks.clone(),
            timeout: limits.connect_timeout.get(),
            keep_alive: self.config.transport.keep_alive,
        };
        let chooser = Chooser {
            own: membership.instance,
            locality: self.config.locality().unwrap_or_else(|| self.control.cluster().locality),
            most: limits.endpoints_per_service as usize,
        };
        let gateways = self.overlay.any_alive();
        let counts = metrics.balance().clone();
        let config = self.config.balance.clone();
        let balances =
            Arc::new(Balances::new(config, membership.cluster, counts, gateways.clone(), rand::random()));
        Arc::new(Outbound {
            pool: Pool::new(connector, Arc::clone(&balances)),
            chooser,
            balances,
            svid: membership.svid.clone(),
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            gateways,
            flows: FlowLimits::new(&limits),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            descriptors,
            cut: cut.clone(),
            limits,
        })
    }
}
