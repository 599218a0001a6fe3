//! Local routes: they make every virtual address one of this host, so that connecting to one, or listening on it, works
//! without a packet leaving.
//!
//! `redirect` needs them as well. A connect is routed before any rule sees it, and a host without a default route (a container
//! without IPv6, often) would refuse it; and a datagram that is delivered locally needs no mark and no routing policy to come
//! by the TPROXY rule.

use crate::config::CaptureConfig;
use causeway_model::Vip;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The number by which routes of ours are known (`proto` of ip-route(8)), so that only these are removed. Nobody else is known
/// to use it.
const PROTOCOL: &str = "243";

/// A route for the virtual addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `-4` or `-6`.
    family: &'static str,
    network: (IpAddr, u8),
    /// What a connection to it comes from. The kernel's own choice is the destination: a source that tells nothing, and with
    /// which a connection can meet itself.
    source: IpAddr,
}

const V4: Route = Route {
    family: "-4",
    network: (IpAddr::V4(Vip::V4_NET.0), Vip::V4_NET.1),
    source: IpAddr::V4(Ipv4Addr::LOCALHOST),
};
const V6: Route = Route {
    family: "-6",
    network: (IpAddr::V6(Vip::V6_NET.0), Vip::V6_NET.1),
    source: IpAddr::V6(Ipv6Addr::LOCALHOST),
};

/// The routes that `config` needs.
pub(super) fn of(config: &CaptureConfig) -> Vec<Route> {
    let wanted = [(config.ipv4, V4), (config.ipv6, V6)];
    wanted.into_iter().filter_map(|(wanted, route)| wanted.then_some(route)).collect()
}

impl Route {
    /// Every route that there can be.
    pub const ALL: [Self; 2] = [V4, V6];

    /// The network that it leads to.
    pub fn network(&self) -> String {
        format!("{}/{}", self.network.0, self.network.1)
    }

    /// The command that makes it, or leaves it as it is.
    pub fn addition(&self) -> Vec<String> {
        let line = format!(
            "ip {} route replace local {} dev lo proto {PROTOCOL} src {}",
            self.family,
            self.network(),
            self.source
        );
        words(&line)
    }

    /// The command that removes it; it fails if there is none.
    pub fn removal(&self) -> Vec<String> {
        words(&format!("ip {} route del local {} dev lo proto {PROTOCOL}", self.family, self.network()))
    }

    /// The command that prints it, or nothing.
    pub fn question(&self) -> Vec<String> {
        let line =
            format!("ip {} route show table local exact {} proto {PROTOCOL}", self.family, self.network());
        words(&line)
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
