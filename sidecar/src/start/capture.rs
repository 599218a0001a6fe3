//! Capture and names, put together: sockets first, which may come from the process before, then what serves them.

use super::control::Discovered;
use super::data::DataThread;
use super::sockets::Sockets;
use crate::captured::{Captured, Families, SOCKETS_OF_VIPS, VipListeners, VipSockets};
use crate::config::CaptureSpec;
use crate::names::{NameTable, Questions, WARM_QUEUE};
use crate::outbound::{Outbound, Route};
use crate::turn::Turn;
use crate::udp::{self, FlowSource, Flows, Routes};
use anyhow::Context;
use causeway_capture::{CaptureMode, TransparentUdp, bind_transparent};
use causeway_runtime::{Metrics, Tasks, bind_error};
use causeway_wire::ctl::MAX_SUBSCRIPTIONS;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Subscriptions that are left to `listen`.
const SPARE_SUBSCRIPTIONS: usize = 256;

/// The sockets of capture and names.
pub(super) struct CaptureSockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    dns: causeway_dns::Sockets,
    questions: Questions,
    vips: VipSockets,
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
        let vips = match spec.capture {
            CaptureMode::Vip => VipSockets::new(sockets.inherit(SOCKETS_OF_VIPS), sockets.offers()),
            CaptureMode::Redirect | CaptureMode::Listen => VipSockets::default(),
        };
        Ok(Self { tcp, udp: transparent, dns, questions: Questions::default(), vips })
    }

    /// Where questions for names are answered.
    pub(super) fn dns_addrs(&self) -> Vec<SocketAddr> {
        self.dns.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Answers questions from now on, on the data thread: what is the mesh's waits for [`serve`](Self::serve).
    ///
    /// # Errors
    /// The settings of DNS cannot work.
    pub(super) fn answer(
        &mut self,
        spec: &CaptureSpec,
        runtime: (&DataThread, &Tasks, &Turn),
        all: &Metrics,
    ) -> anyhow::Result<()> {
        let sockets =
            std::mem::replace(&mut self.dns, causeway_dns::Sockets { udp: Vec::new(), tcp: Vec::new() });
        if sockets.udp.is_empty() {
            return Ok(());
        }
        super::dns::start(sockets, spec, self.questions.clone(), runtime, all)
    }

    /// Serves them on the data thread.
    pub(super) fn serve(
        self,
        spec: &CaptureSpec,
        (discovered, outbound): (Arc<Discovered>, Arc<Outbound>),
        (data, tasks, turn): (&DataThread, &Tasks, &Turn),
    ) {
        if spec.capture == CaptureMode::Listen {
            return;
        }
        let (warm, warmed) = mpsc::channel(WARM_QUEUE);
        let remembered = discovered.control().known_vips();
        let names = NameTable::new(discovered, MAX_SUBSCRIPTIONS - SPARE_SUBSCRIPTIONS, warm);
        tasks.spawn_on(data.handle(), "warm names", warm_up(Arc::clone(&outbound), warmed));
        if spec.capture == CaptureMode::Vip {
            let families = Families { v4: spec.ipv4, v6: spec.ipv6 };
            let runtime = (tasks.clone(), data.handle().clone(), turn.clone());
            let follow = Arc::new(VipListeners::new(Arc::clone(&outbound), runtime, families, self.vips));
            names.set_follow(Arc::clone(&follow) as _);
            names.restore(remembered);
            tasks.spawn("inherited names", inherited(Arc::clone(&names), follow));
            tasks.spawn("names", Arc::clone(&names).keep_following(tasks.token()));
        }
        self.questions.begin(&names);
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
    }
}

/// Finds the names of the listeners that the process before had and this one has not claimed: they came into use after the state was
/// saved. Those of which nobody knows the name are closed.
async fn inherited(names: Arc<NameTable>, follow: Arc<VipListeners>) {
    for vip in follow.unclaimed() {
        if let Err(error) = names.by_vip(vip).await {
            tracing::warn!(vip = %vip.v4(), %error, "a virtual address of the process before is not listened on any more");
        }
    }
    follow.close_unclaimed();
}

/// Makes connections ready for names as they are asked for.
async fn warm_up(outbound: Arc<Outbound>, mut names: mpsc::Receiver<Arc<crate::names::Name>>) {
    while let Some(name) = names.recv().await {
        let port = name.ports().and_then(|ports| ports.iter().next());
        if let Some(port) = port {
            outbound.prepare(&Route::to(&name, port.key()));
        }
    }
}
