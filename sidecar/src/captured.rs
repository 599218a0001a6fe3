//! Captured: connections that the application meant for somewhere else, which rules or local routes bring here.
//!
//! Owns where each was meant to go: to a name of the mesh, by its virtual address, or out of the mesh, which is passed on untouched
//! or refused. Rules and routes are `causeway-capture`'s, names `names`', and what is carried through the mesh `outbound`'s.

mod outside;
mod vips;

pub use outside::Outside;
pub(crate) use vips::{Families, SOCKETS_OF_VIPS, VipListeners, VipSockets};

use crate::failure::Failure;
use crate::names::{LookupError, NameTable};
use crate::outbound::{Outbound, Route, Taken};
use crate::udp::Lookup;
use causeway_capture::original_destination;
use causeway_model::{PortKey, Transport, Vip};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::net::TcpListener;

/// The connections that rules redirect.
pub(crate) struct Captured {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) names: Arc<NameTable>,
    pub(crate) outside: Outside,
}

impl Captured {
    /// Accepts redirected connections on `listener` until the drain begins.
    ///
    /// # Errors
    /// The listener cannot be used on this runtime.
    pub(crate) async fn listen(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = crate::outbound::without_delay(listener)?;
        let mut draining = pin!(self.outbound.drain.started());
        loop {
            tokio::select! {
                () = &mut draining => return Ok(()),
                (tcp, from) = accept(&listener) => {
                    let Some(taken) = self.outbound.take(tcp, from, None) else { continue };
                    let this = Arc::clone(&self);
                    tokio::spawn(async move { this.carry(taken).await });
                }
            }
        }
    }

    async fn carry(&self, mut taken: Taken) {
        let original = match original_destination(&taken.tcp) {
            Ok(original) => original,
            Err(error) => return taken.refuse(&Failure::NotCaptured { error: error.to_string() }),
        };
        taken.access.dst_addr = Some(original);
        if !Vip::contains(original.ip()) {
            return self.outside.carry(&self.outbound, taken, original).await;
        }
        match route(&self.names, original, Transport::Tcp).await {
            Ok(route) => Arc::clone(&self.outbound).run(taken, route).await,
            Err(failure) => taken.refuse(&failure),
        }
    }
}

impl Lookup for Captured {
    fn route(&self, to: SocketAddr) -> Pin<Box<dyn Future<Output = Result<Route, Failure>> + Send>> {
        let names = Arc::clone(&self.names);
        Box::pin(async move { route(&names, to, Transport::Udp).await })
    }
}

/// Where what was sent to a virtual address goes.
async fn route(names: &NameTable, to: SocketAddr, transport: Transport) -> Result<Route, Failure> {
    let nobody = || Failure::VipUnknown { addr: to };
    let vip = Vip::from_ip(to.ip()).ok_or_else(nobody)?;
    let name = names.by_vip(vip).await.map_err(|error| match error {
        LookupError::Unknown => nobody(),
        LookupError::Unavailable(why) => Failure::VipUnavailable { addr: to, why },
    })?;
    Ok(Route::to(&name, PortKey { port: to.port(), transport }))
}

/// The next connection. What cannot be accepted is logged, and waited for.
pub(crate) async fn accept(listener: &TcpListener) -> (tokio::net::TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(listen = ?listener.local_addr().ok(), %error, "cannot accept a connection");
                tokio::time::sleep(crate::outbound::ACCEPT_PAUSE).await;
            }
        }
    }
}
