//! Peers behind other clusters: the addresses that stand for them, and the way out to them.

use crate::forward::canonical;
use causeway_model::ClusterId;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The first byte of [`transit_addr`]: 241.0.0.0/8 is of the block that is kept for future use (RFC 1112 section 4), and the other
/// three bytes hold a cluster id.
const BLOCK: u8 = 241;
/// quinn wants a port.
const PORT: u16 = 7443;

/// The address that stands for the gateways of `cluster` as they are reached through other clusters. A connection keeps it whichever
/// way its packets take, so a change of way is no migration. Nothing is ever sent to it, and nothing is taken that comes from it.
pub fn transit_addr(cluster: ClusterId) -> SocketAddr {
    let [_, a, b, c] = cluster.get().to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(BLOCK, a, b, c).into(), PORT)
}

/// The cluster for which `addr` stands, if it is one of [`transit_addr`], in whatever form a socket shows it.
pub fn transit_cluster(addr: SocketAddr) -> Option<ClusterId> {
    match canonical(addr).ip() {
        IpAddr::V4(ip) => match ip.octets() {
            [BLOCK, a, b, c] => ClusterId::new(u32::from_be_bytes([0, a, b, c])),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// Sends packets of the gateway's own connections on their way through other clusters.
pub trait TransitExit: Debug + Send + Sync {
    /// Sends `datagrams`, each of `stride` bytes but the last, towards `cluster`. What finds no way is lost, as on any wire.
    fn send(&self, cluster: ClusterId, datagrams: &[u8], stride: usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_its_cluster() {
        for id in [1, 0x0a_0b0c, ClusterId::MAX] {
            let cluster = ClusterId::new(id).unwrap();
            let addr = transit_addr(cluster);
            assert_eq!(transit_cluster(addr), Some(cluster));
            let IpAddr::V4(ip) = addr.ip() else { panic!("{addr}") };
            let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port());
            assert_eq!(transit_cluster(mapped), Some(cluster));
        }
        for other in ["192.0.2.1:7443", "241.0.0.0:7443", "240.0.0.1:7443", "[::1]:7443"] {
            assert_eq!(transit_cluster(other.parse().unwrap()), None, "{other}");
        }
    }
}
