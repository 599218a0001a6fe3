//! The parts that carry traffic, put together on the data thread.

use super::control::{Discovered, policy};
use super::data::DataThread;
use crate::choose::Chooser;
use crate::config::{ListenSpec, SidecarConfig};
use crate::direct::Directs;
use crate::inbound::{Callers, Delivery, Inbound};
use crate::membership::Membership;
use crate::metrics::SidecarMetrics;
use crate::outbound::{Connector, Outbound, Pool, Route};
use crate::trust::Trust;
use causeway_client::Control;
use causeway_runtime::{Drain, Metrics, Tasks};
use causeway_transport::{Overlay, OverlayEndpoint};
use std::net::{SocketAddr, TcpListener};
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
}

impl Parts<'_> {
    /// Starts both directions on the data thread. The token that is returned cuts outbound connections.
    pub(super) fn start(
        &self,
        data: &DataThread,
        listeners: Vec<(ListenSpec, TcpListener)>,
        all: &Metrics,
    ) -> CancellationToken {
        let metrics = SidecarMetrics::new();
        all.registry(|registry| metrics.register(registry));
        let discovered = Arc::new(Discovered::new(self.control.clone()));
        let membership = Arc::new(self.membership(&discovered));
        self.tasks.spawn_critical("trust", membership.trust.clone().run(self.tasks.token()));
        let inbound = self.inbound(&membership, &metrics);
        self.tasks.spawn_on(data.handle(), "inbound", inbound.accept(self.endpoint.clone()));
        let cut = self.tasks.token().child_token();
        let outbound = self.outbound(&membership, &metrics, &cut);
        for (spec, listener) in listeners {
            let view = discovered.subscribe(&spec.service);
            let name = format!("listen {spec}");
            self.tasks.spawn_on(
                data.handle(),
                name,
                Arc::clone(&outbound).listen(listener, Route { spec, view }),
            );
        }
        cut
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

    fn inbound(&self, membership: &Arc<Membership>, metrics: &SidecarMetrics) -> Arc<Inbound> {
        let limits = self.config.limits.clone();
        let mut transport = self.config.transport.clone();
        transport.max_streams = transport.max_streams.min(limits.max_streams_per_peer);
        let permits = || Arc::new(Semaphore::new(limits.max_connections as usize));
        Arc::new(Inbound {
            membership: Arc::clone(membership),
            policy: policy(self.control, self.config.services(), self.tasks),
            delivery: Delivery::new(self.config),
            transport,
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            tasks: self.tasks.clone(),
            peers: permits(),
            callers: Callers::default(),
            streams: permits(),
            limits,
        })
    }

    fn outbound(
        &self,
        membership: &Arc<Membership>,
        metrics: &SidecarMetrics,
        cut: &CancellationToken,
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
        Arc::new(Outbound {
            pool: Pool::new(connector),
            chooser,
            svid: membership.svid.clone(),
            metrics: metrics.clone(),
            drain: self.drain.clone(),
            gateways: self.overlay.any_alive(),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            cut: cut.clone(),
            limits,
        })
    }
}
