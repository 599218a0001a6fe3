//! Listeners on virtual addresses, for `--capture vip`: one for each port of each name in use, in both families.

use super::accept;
use crate::names::{Follow, Name};
use crate::outbound::{Outbound, Route};
use crate::udp::{FlowSource, Flows, Routes};
use causeway_capture::{SocketError, any_ip};
use causeway_model::{Protocol, VipName};
use causeway_runtime::Tasks;
use rustc_hash::FxHashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Which families are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// The listeners of one name. Dropping them closes them.
struct Open {
    ports: FxHashMap<(SocketAddr, bool), DropGuard>,
}

/// The listeners on virtual addresses.
pub(crate) struct VipListeners {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) tasks: Tasks,
    /// Where connections are carried.
    pub(crate) data: Handle,
    pub(crate) families: Families,
    open: Mutex<FxHashMap<VipName, Open>>,
}

impl VipListeners {
    pub(crate) fn new(outbound: Arc<Outbound>, tasks: Tasks, data: Handle, families: Families) -> Self {
        Self { outbound, tasks, data, families, open: Mutex::default() }
    }
}

impl Follow for VipListeners {
    /// Listens on every port of `name` that is not listened on yet, and no more on those that it has not got any more. A name without
    /// any offer keeps its listeners, which say why there is no answer.
    fn follow(&self, name: &Arc<Name>) {
        let Some(ports) = name.ports() else { return };
        let ips = [(self.families.v4, IpAddr::from(name.vip.v4())), (self.families.v6, name.vip.v6().into())];
        let wanted: Vec<(SocketAddr, bool)> = ports
            .iter()
            .flat_map(|port| {
                let used = ips.iter().filter(|(on, _)| *on);
                used.map(move |(_, ip)| (SocketAddr::new(*ip, port.port), port.protocol == Protocol::Udp))
            })
            .collect();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of = open.entry(name.name.clone()).or_insert_with(|| Open { ports: FxHashMap::default() });
        of.ports.retain(|key, _| wanted.contains(key));
        for (addr, udp) in wanted {
            if of.ports.contains_key(&(addr, udp)) {
                continue;
            }
            let opened = if udp { self.open_udp(addr, name) } else { self.open_tcp(addr, name) };
            match opened {
                Ok(listener) => drop(of.ports.insert((addr, udp), listener)),
                Err(error) => {
                    tracing::warn!(name = %name.name, %error, "cannot listen on a virtual address");
                }
            }
        }
    }

    fn forget(&self, name: &VipName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl VipListeners {
    fn open_tcp(&self, addr: SocketAddr, name: &Arc<Name>) -> Result<DropGuard, SocketError> {
        let listener = any_ip::bind_tcp(addr)?;
        // the table keeps the name, and its listeners go when it does
        let (outbound, name) = (Arc::clone(&self.outbound), Arc::downgrade(name));
        Ok(self.spawn(format!("vip {addr}"), serve(outbound, listener, addr, name)))
    }

    fn open_udp(&self, addr: SocketAddr, name: &Arc<Name>) -> Result<DropGuard, SocketError> {
        let socket = any_ip::bind_udp(addr)?;
        let (outbound, route) = (Arc::clone(&self.outbound), Route::to(name, addr.port()));
        Ok(self.spawn(format!("vip {addr}/udp"), async move {
            let flows = Flows::new(&outbound, FlowSource::port(socket)?, Routes::One(route));
            flows.run(std::future::pending()).await;
            Ok(())
        }))
    }

    fn spawn(&self, name: String, work: impl Future<Output = io::Result<()>> + Send + 'static) -> DropGuard {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.tasks.spawn_on(&self.data, name, async move {
            tokio::select! {
                () = stopped.cancelled() => Ok(()),
                ended = work => ended,
            }
        });
        stop.drop_guard()
    }
}

async fn serve(
    outbound: Arc<Outbound>,
    listener: TcpListener,
    addr: SocketAddr,
    name: Weak<Name>,
) -> std::io::Result<()> {
    let listener = crate::outbound::without_delay(listener)?;
    let mut draining = std::pin::pin!(outbound.drain.started());
    loop {
        tokio::select! {
            () = &mut draining => return Ok(()),
            (tcp, from) = accept(&listener) => {
                let Some(name) = name.upgrade() else { return Ok(()) };
                let route = Route::to(&name, addr.port());
                let Some(mut taken) = outbound.take(tcp, from, Some(&route)) else { continue };
                taken.access.dst_addr = Some(addr);
                tokio::spawn(Arc::clone(&outbound).run(taken, route));
            }
        }
    }
}
