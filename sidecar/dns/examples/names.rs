//! Serves `s0.shop.mesh` to `s999.shop.mesh`, to be asked by dig or dnsperf:
//! `cargo run --release -p causeway-dns --example names -- 127.0.0.1:5300 [UPSTREAM...]`.

use causeway_dns::{DnsConfig, DnsMetrics, DnsServer, NameError, Names, Resolved, Upstreams};
use causeway_model::{PortSet, ServicePort, Vip, VipName};
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A thousand services with one port.
struct Thousand {
    ports: PortSet,
}

impl Names for Thousand {
    fn known(&self, name: &VipName) -> Option<Resolved> {
        let number: u32 = name.service.service().as_str().strip_prefix('s')?.parse().ok()?;
        let known = number < 1_000 && name.service.namespace().as_str() == "shop" && name.cluster.is_none();
        let vip = Vip::new(number + 1).filter(|_| known)?;
        Some(Resolved { vip, ports: self.ports.clone() })
    }

    fn resolve(&self, _: VipName) -> Pin<Box<dyn Future<Output = Result<Resolved, NameError>> + Send>> {
        Box::pin(async { Err(NameError::Unknown) })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses = std::env::args().skip(1).map(|address| address.parse::<SocketAddr>());
    let listen = addresses.next().ok_or("name the address to listen on, for example 127.0.0.1:5300")??;
    let upstreams = addresses.collect::<Result<Vec<_>, _>>()?;
    let upstream = if upstreams.is_empty() { Upstreams::None } else { Upstreams::List(upstreams) };
    let config = DnsConfig { listen: vec![listen], upstream, ..DnsConfig::default() };
    let names = Thousand { ports: vec!["80/http".parse::<ServicePort>()?].try_into()? };
    let server = DnsServer::bind(&config, Arc::new(names), DnsMetrics::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(server.serve(CancellationToken::new()))?;
    Ok(())
}
