//! Listeners on virtual addresses, for `--capture vip`: one for each port of each name in use, in both families.

mod sockets;

pub(crate) use sockets::{SOCKETS_OF_VIPS, VipSockets};

use super::accept;
use crate::names::{Follow, Name};
use crate::outbound::{Outbound, Route};
use crate::turn::Turn;
use crate::udp::{FlowSource, Flows, Routes};
use causeway_model::{PortKey, Protocol, Vip, VipName};
use causeway_runtime::Tasks;
use causeway_wire::view::ServiceView;
use rustc_hash::{FxHashMap, FxHashSet};
use sockets::Kept;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An address, and whether it is of UDP.
type Place = (SocketAddr, bool);

/// Which families are listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// The listeners of one name. Dropping them closes them.
#[derive(Default)]
struct Open {
    ports: FxHashMap<Place, Listening>,
    /// Those that could not be had, which is said once.
    missing: FxHashSet<Place>,
    /// What was known of the name when all of its ports were had.
    of: Option<Arc<ServiceView>>,
}

/// A listener. Dropping it closes it.
struct Listening {
    _stop: DropGuard,
    _kept: Option<Kept>,
}

/// The listeners on virtual addresses.
pub(crate) struct VipListeners {
    outbound: Arc<Outbound>,
    tasks: Tasks,
    /// Where connections are carried.
    data: Handle,
    turn: Turn,
    families: Families,
    sockets: VipSockets,
    open: Mutex<FxHashMap<VipName, Open>>,
}

impl VipListeners {
    /// Listeners that accept once it is this process' turn, from `sockets` where the address is among them.
    pub(crate) fn new(
        outbound: Arc<Outbound>,
        (tasks, data, turn): (Tasks, Handle, Turn),
        families: Families,
        sockets: VipSockets,
    ) -> Self {
        Self { outbound, tasks, data, turn, families, sockets, open: Mutex::default() }
    }

    /// The virtual addresses of the process before whose listeners nobody has claimed.
    pub(crate) fn unclaimed(&self) -> BTreeSet<Vip> {
        self.sockets.unclaimed().filter_map(|addr| Vip::from_ip(addr.ip())).collect()
    }

    /// Closes these: whoever connects there is refused, and asks for the name again.
    pub(crate) fn close_unclaimed(&self) {
        self.sockets.close_unclaimed();
    }
}

impl Follow for VipListeners {
    /// Listens on every port of `name` that is not listened on yet, and no more on those that it has not got any more. A name without
    /// any offer keeps its listeners, which say why there is no answer.
    fn follow(&self, name: &Arc<Name>) {
        if self.outbound.drain.is_draining() {
            return;
        }
        let view = name.view.borrow().clone();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of = open.entry(name.name.clone()).or_default();
        let same = matches!((&of.of, &view), (Some(of), Some(view)) if Arc::ptr_eq(of, view));
        if same {
            return;
        }
        let Some(wanted) = self.wanted(name) else { return };
        of.ports.retain(|key, _| wanted.contains(key));
        for place in wanted {
            if of.ports.contains_key(&place) {
                continue;
            }
            match self.listen(place, name) {
                Ok(listening) => {
                    of.missing.remove(&place);
                    of.ports.insert(place, listening);
                }
                Err(error) if of.missing.insert(place) => {
                    tracing::warn!(name = %name.name, %error, "cannot listen on a virtual address; it is tried again");
                }
                Err(_) => {}
            }
        }
        of.missing.retain(|key| !of.ports.contains_key(key));
        of.of = view.filter(|_| of.missing.is_empty());
    }

    fn forget(&self, name: &VipName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl VipListeners {
    /// The addresses of the ports of `name`; `None` while nobody offers it.
    fn wanted(&self, name: &Name) -> Option<Vec<Place>> {
        let ips = [(self.families.v4, IpAddr::from(name.vip.v4())), (self.families.v6, name.vip.v6().into())];
        let places = |port: u16, udp: bool| {
            let used = ips.iter().filter(|(on, _)| *on);
            used.map(move |(_, ip)| (SocketAddr::new(*ip, port), udp))
        };
        let ports = name.ports()?;
        Some(ports.iter().flat_map(|port| places(port.port, port.protocol == Protocol::Udp)).collect())
    }

    fn listen(&self, place: Place, name: &Arc<Name>) -> io::Result<Listening> {
        let (addr, udp) = place;
        if udp {
            let (socket, kept) = self.sockets.udp(addr)?;
            Ok(self.spawn(format!("vip {addr}/udp"), kept, self.serve_udp(socket, addr, name)))
        } else {
            let (listener, kept) = self.sockets.tcp(addr)?;
            // the table keeps the name, and its listeners go when it does
            let (outbound, name) = (Arc::clone(&self.outbound), Arc::downgrade(name));
            Ok(self.spawn(format!("vip {addr}"), kept, serve(outbound, listener, addr, name)))
        }
    }

    fn serve_udp(
        &self,
        socket: UdpSocket,
        addr: SocketAddr,
        name: &Arc<Name>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (outbound, route) = (Arc::clone(&self.outbound), Route::to(name, PortKey::udp(addr.port())));
        let turn = self.turn.clone();
        async move {
            let flows = Flows::new(&outbound, FlowSource::port(socket)?, Routes::One(route));
            flows.run(turn.over()).await;
            Ok(())
        }
    }

    /// Does `work` once it is this process' turn, until what is returned is dropped.
    fn spawn(
        &self,
        name: String,
        kept: Option<Kept>,
        work: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Listening {
        let stop = CancellationToken::new();
        let (stopped, turn) = (stop.clone(), self.turn.clone());
        self.tasks.spawn_on(&self.data, name, async move {
            if !turn.mine(&stopped).await {
                return Ok(());
            }
            tokio::select! {
                () = stopped.cancelled() => Ok(()),
                ended = work => ended,
            }
        });
        Listening { _stop: stop.drop_guard(), _kept: kept }
    }
}

async fn serve(
    outbound: Arc<Outbound>,
    listener: TcpListener,
    addr: SocketAddr,
    name: Weak<Name>,
) -> io::Result<()> {
    let listener = crate::outbound::without_delay(listener)?;
    let mut draining = std::pin::pin!(outbound.drain.started());
    loop {
        tokio::select! {
            () = &mut draining => return Ok(()),
            (tcp, from) = accept(&listener) => {
                let Some(name) = name.upgrade() else { return Ok(()) };
                let route = Route::to(&name, PortKey::tcp(addr.port()));
                let Some(mut taken) = outbound.take(tcp, from, Some(&route)) else { continue };
                taken.access.dst_addr = Some(addr);
                tokio::spawn(Arc::clone(&outbound).run(taken, route));
            }
        }
    }
}
