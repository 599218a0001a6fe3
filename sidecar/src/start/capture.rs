//! Capture and names, put together: sockets first, which may come from the process before, then what serves them.

use super::control::Discovered;
use super::data::DataThread;
use super::sockets::Sockets;
use super::succession::Turn;
use crate::captured::{Captured, Families, VipListeners};
use crate::config::CaptureSpec;
use crate::names::{Directory, NameTable, Questions, Subscribed, WARM_QUEUE};
use crate::outbound::{Outbound, Route};
use crate::udp::{self, FlowSource, Flows, Routes};
use anyhow::Context;
use causeway_capture::{CaptureMode, TransparentUdp, bind_transparent};
use causeway_client::{Control, VipError};
use causeway_dns::{DnsMetrics, DnsServer};
use causeway_model::{Vip, VipName};
use causeway_runtime::{Metrics, Tasks, bind_error};
use causeway_wire::ctl::MAX_SUBSCRIPTIONS;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Subscriptions that are left to `listen`.
const SPARE_SUBSCRIPTIONS: usize = 256;

/// The sockets of capture and names.
pub(super) struct CaptureSockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    dns: causeway_dns::Sockets,
}

impl CaptureSockets {
    /// Those that `spec` wants: of the process before, or bound anew.
    ///
    /// # Errors
    /// An address cannot be had, or a privilege is missing.
    pub(super) fn open(spec: &CaptureSpec, sockets: &mut Sockets) -> anyhow::Result<Self> {
        let (mut tcp, mut transparent) = (Vec::new(), Vec::new());
        for addr in spec.outbound_addresses() {
            tcp.push(sockets.tcp(
                "captured connections",
                "--outbound-port",
                format!("captured {addr}"),
                addr,
            )?);
            if spec.capture_udp {
                let bind = || bind_transparent(addr).map_err(|error| io::Error::other(error.to_string()));
                let socket = sockets.udp(format!("captured {addr}/udp"), addr, bind);
                transparent.push(socket.context(
                    "cannot take captured datagrams; capture-udp = false captures connections only",
                )?);
            }
        }
        let mut dns = causeway_dns::Sockets { udp: Vec::new(), tcp: Vec::new() };
        for addr in spec.dns_addresses() {
            let listener = sockets.tcp("DNS", "--dns-listen", format!("dns {addr}"), addr)?;
            // a port that the system chose is to be the same for both
            let bound = listener.local_addr().context("cannot read a listener's address")?;
            let socket = sockets.udp(format!("dns {addr}/udp"), bound, || udp::bind(bound));
            dns.udp.push(socket.map_err(|source| bind_error("DNS", "--dns-listen", addr, source))?);
            dns.tcp.push(listener);
        }
        Ok(Self { tcp, udp: transparent, dns })
    }

    /// Where questions for names are answered.
    pub(super) fn dns_addrs(&self) -> Vec<SocketAddr> {
        self.dns.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Serves them on the data thread.
    ///
    /// # Errors
    /// The settings of DNS cannot work.
    pub(super) fn serve(
        self,
        spec: &CaptureSpec,
        (discovered, outbound): (Arc<Discovered>, Arc<Outbound>),
        (data, tasks, turn): (&DataThread, &Tasks, &Turn),
        all: &Metrics,
    ) -> anyhow::Result<()> {
        if spec.capture == CaptureMode::Listen {
            return Ok(());
        }
        let (warm, warmed) = mpsc::channel(WARM_QUEUE);
        let names = NameTable::new(discovered, MAX_SUBSCRIPTIONS - SPARE_SUBSCRIPTIONS, warm);
        tasks.spawn_on(data.handle(), "warm names", warm_up(Arc::clone(&outbound), warmed));
        if spec.capture == CaptureMode::Vip {
            let families = Families { v4: spec.ipv4, v6: spec.ipv6 };
            let follow =
                VipListeners::new(Arc::clone(&outbound), tasks.clone(), data.handle().clone(), families);
            names.set_follow(Arc::new(follow));
            tasks.spawn("names", Arc::clone(&names).keep_following(tasks.token()));
        }
        if !self.dns.udp.is_empty() {
            let metrics = DnsMetrics::default();
            all.registry(|registry| metrics.register(registry));
            let questions = Arc::new(Questions(Arc::clone(&names)));
            let server = DnsServer::from_sockets(self.dns, &spec.dns(), questions, metrics)?;
            let (turn, end) = (turn.clone(), tasks.token());
            tasks.spawn_on(data.handle(), "dns", async move {
                match turn.mine(&end).await {
                    true => server.serve(end).await.map_err(|error| io::Error::other(error.to_string())),
                    false => Ok(()),
                }
            });
        }
        let captured = Arc::new(Captured { outbound, names, outside: spec.outside });
        for listener in self.tcp {
            let (captured, turn, end) = (Arc::clone(&captured), turn.clone(), tasks.token());
            tasks.spawn_on(data.handle(), "captured connections", async move {
                match turn.mine(&end).await {
                    true => captured.listen(listener).await,
                    false => Ok(()),
                }
            });
        }
        for socket in self.udp {
            let (captured, turn, end) = (Arc::clone(&captured), turn.clone(), tasks.token());
            tasks.spawn_on(data.handle(), "captured datagrams", async move {
                if !turn.mine(&end).await {
                    return Ok(());
                }
                let source = FlowSource::transparent(TransparentUdp::from_std(socket)?);
                let outbound = Arc::clone(&captured.outbound);
                Flows::new(&outbound, source, Routes::ByAddress(captured)).run(turn.over()).await;
                io::Result::Ok(())
            });
        }
        Ok(())
    }
}

/// Makes connections ready for names as they are asked for.
async fn warm_up(outbound: Arc<Outbound>, mut names: mpsc::Receiver<Arc<crate::names::Name>>) {
    while let Some(name) = names.recv().await {
        let port = name.ports().and_then(|ports| ports.iter().next());
        if let Some(port) = port {
            outbound.prepare(&Route::to(&name, port.port));
        }
    }
}

impl Directory for Discovered {
    fn subscribe(&self, name: &VipName) -> Subscribed {
        let subscription = self.control().subscribe(&name.service);
        let mut all = subscription.receiver();
        let Some(cluster) = name.cluster.clone() else {
            return Subscribed { view: all, guard: Box::new(subscription) };
        };
        let pinned = move |view: &causeway_wire::view::ServiceView| {
            let mut view = view.clone();
            view.offers.retain(|offer| offer.cluster.name == cluster);
            Arc::new(view)
        };
        let (tell, view) = watch::channel(all.borrow_and_update().as_deref().map(&pinned));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = all.changed() => if changed.is_err() { return },
                    () = tell.closed() => return,
                }
                let now = all.borrow_and_update().as_deref().map(&pinned);
                tell.send_replace(now);
            }
        });
        Subscribed { view, guard: Box::new(subscription) }
    }

    fn vip(&self, name: VipName) -> Pin<Box<dyn Future<Output = Result<Vip, VipError>> + Send>> {
        let control: Control = self.control().clone();
        Box::pin(async move { control.vip(name).await })
    }

    fn name_of(&self, vip: Vip) -> Pin<Box<dyn Future<Output = Result<VipName, VipError>> + Send>> {
        let control: Control = self.control().clone();
        Box::pin(async move { control.vip_name(vip).await })
    }
}
