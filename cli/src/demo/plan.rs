//! Who runs where: names, addresses and command lines of the demo's processes. Pure; nothing is started here.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The overlay's UDP port.
const OVERLAY: u16 = 7443;
/// The admin API's port.
const ADMIN: u16 = 7444;
/// The port of metrics and readiness.
const TELEMETRY: u16 = 7445;
/// The port at which a sidecar listens for its workload.
const LISTEN: u16 = 8080;
/// The last byte of the address of a cluster's first sidecar; gateways have those below.
const FIRST_SIDECAR: u8 = 10;
/// The port of both services.
const SERVICE: u16 = 80;

/// One of the two clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cluster {
    Iad,
    Phx,
}

impl Cluster {
    pub(super) const BOTH: [Self; 2] = [Self::Iad, Self::Phx];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Iad => "iad",
            Self::Phx => "phx",
        }
    }

    pub(super) fn region(self) -> &'static str {
        match self {
            Self::Iad => "us-ashburn-1",
            Self::Phx => "us-phoenix-1",
        }
    }

    pub(super) fn zone(self) -> &'static str {
        "AD-1"
    }

    /// The service that runs in this cluster.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Iad => "orders.shop",
            Self::Phx => "payments.shop",
        }
    }

    /// How many endpoints its service has.
    pub(super) fn endpoints(self) -> u8 {
        match self {
            Self::Iad => 1,
            Self::Phx => 2,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Iad => Self::Phx,
            Self::Phx => Self::Iad,
        }
    }

    /// The cluster's service with its port, as tokens name it.
    pub(super) fn service_port(self) -> String {
        format!("{}:{SERVICE}", self.service())
    }

    /// Where a workload of this cluster calls the other cluster's service.
    pub(super) fn entrance(self) -> SocketAddr {
        SocketAddr::from((self.host(FIRST_SIDECAR), LISTEN))
    }

    fn host(self, host: u8) -> Ipv4Addr {
        let net = match self {
            Self::Iad => 11,
            Self::Phx => 12,
        };
        Ipv4Addr::new(127, 0, net, host)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A gateway. The first of a cluster votes, the others are learners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GatewayPlan {
    pub(super) cluster: Cluster,
    /// From 1.
    pub(super) number: u8,
}

impl GatewayPlan {
    pub(super) fn name(self) -> String {
        format!("{}-{}", self.cluster, self.number)
    }

    /// The CLI context that leads to it: the first gateway of a cluster has the cluster's name.
    pub(super) fn context(self) -> String {
        if self.votes() { self.cluster.to_string() } else { self.name() }
    }

    pub(super) fn votes(self) -> bool {
        self.number == 1
    }

    pub(super) fn overlay(self) -> SocketAddr {
        self.at(OVERLAY)
    }

    pub(super) fn admin(self) -> SocketAddr {
        self.at(ADMIN)
    }

    pub(super) fn telemetry(self) -> SocketAddr {
        self.at(TELEMETRY)
    }

    fn at(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.cluster.host(self.number), port))
    }

    /// What follows `causeway` on its command line; its state is in a folder of `dir`.
    pub(super) fn args(self, dir: &Path, join: Option<&str>) -> Vec<String> {
        let mut args = words(&["gateway", "--cluster", self.cluster.name()]);
        let data = dir.join(self.name()).display().to_string();
        let [overlay, admin, telemetry] =
            [self.overlay(), self.admin(), self.telemetry()].map(|addr| addr.to_string());
        args.extend(words(&["--region", self.cluster.region(), "--zone", self.cluster.zone()]));
        args.extend(words(&["--data-dir", &data, "--listen", &overlay, "--admin", &admin]));
        // a machine with many cores would only get many idle threads
        args.extend(words(&["--telemetry", &telemetry, "--threads", "2", "--drain", "2s"]));
        if !self.votes() {
            args.extend(words(&["--context", &self.context()]));
        }
        if let Some(token) = join {
            args.extend(words(&["--join", token]));
        }
        args
    }
}

/// A sidecar with the workload beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SidecarPlan {
    pub(super) cluster: Cluster,
    /// From 1.
    pub(super) number: u8,
}

impl SidecarPlan {
    /// Every sidecar of a cluster: one an endpoint.
    pub(super) fn of(cluster: Cluster) -> impl Iterator<Item = Self> {
        (1..=cluster.endpoints()).map(move |number| Self { cluster, number })
    }

    /// `payments-2`: the same name that the workload says in its answers.
    pub(super) fn name(self) -> String {
        let service = self.cluster.service();
        format!("{}-{}", service.split('.').next().unwrap_or(service), self.number)
    }

    pub(super) fn telemetry(self) -> SocketAddr {
        SocketAddr::from((self.host(), TELEMETRY))
    }

    /// Where its workload calls the other cluster's service; the first sidecar of a cluster offers that.
    pub(super) fn listen(self) -> Option<SocketAddr> {
        (self.number == 1).then(|| self.cluster.entrance())
    }

    fn host(self) -> Ipv4Addr {
        self.cluster.host(FIRST_SIDECAR + self.number - 1)
    }

    /// What follows `causeway` on its command line, apart from the token; `upstream` is the workload.
    pub(super) fn args(self, dir: &Path, upstream: SocketAddr) -> Vec<String> {
        let state = dir.join(self.name()).display().to_string();
        let (overlay, telemetry) = (format!("{}:0", self.host()), self.telemetry().to_string());
        let serve = format!("{}={upstream}", self.cluster.service_port());
        let mut args = words(&["sidecar", "--state-dir", &state, "--overlay", &overlay]);
        args.extend(words(&["--serve", &serve, "--telemetry", &telemetry, "--drain", "2s"]));
        if let Some(listen) = self.listen() {
            args.extend(words(&["--listen", &format!("{listen}={}", self.cluster.other().service_port())]));
        }
        args
    }
}

/// Every gateway, those of iad first.
pub(super) fn gateways(per_cluster: u8) -> Vec<GatewayPlan> {
    let of = |cluster| (1..=per_cluster).map(move |number| GatewayPlan { cluster, number });
    Cluster::BOTH.into_iter().flat_map(of).collect()
}

/// Every sidecar, those of iad first.
pub(super) fn sidecars() -> Vec<SidecarPlan> {
    Cluster::BOTH.into_iter().flat_map(SidecarPlan::of).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;
    use std::collections::BTreeSet;

    const IAD_2: GatewayPlan = GatewayPlan { cluster: Cluster::Iad, number: 2 };
    const PHX_1: SidecarPlan = SidecarPlan { cluster: Cluster::Phx, number: 1 };

    #[test]
    fn no_address_is_given_twice_and_all_are_loopback() {
        let mut seen = BTreeSet::new();
        for gateway in gateways(5) {
            for addr in [gateway.overlay(), gateway.admin(), gateway.telemetry()] {
                assert!(addr.ip().is_loopback() && seen.insert(addr), "{addr}");
            }
        }
        for sidecar in sidecars() {
            for addr in sidecar.listen().into_iter().chain([sidecar.telemetry()]) {
                assert!(addr.ip().is_loopback() && seen.insert(addr), "{addr}");
            }
        }
        assert_eq!(seen.len(), 5 * 2 * 3 + 3 + 2);
        assert_eq!(Cluster::Iad.entrance().to_string(), "127.0.11.10:8080");
        assert_eq!(IAD_2.overlay().to_string(), "127.0.11.2:7443");
    }

    #[test]
    fn the_first_gateway_founds_and_the_others_join() {
        let dir = Path::new("/d");
        let first = GatewayPlan { cluster: Cluster::Iad, number: 1 }.args(dir, None).join(" ");
        assert_eq!(
            first,
            "gateway --cluster iad --region us-ashburn-1 --zone AD-1 --data-dir /d/iad-1 --listen 127.0.11.1:7443 \
             --admin 127.0.11.1:7444 --telemetry 127.0.11.1:7445 --threads 2 --drain 2s"
        );
        let second = IAD_2.args(dir, Some("cwj1_x")).join(" ");
        assert!(second.ends_with("--context iad-2 --join cwj1_x"), "{second}");
        assert_eq!((gateways(1)[1].context(), IAD_2.context()), ("phx".to_owned(), "iad-2".to_owned()));
    }

    #[test]
    fn a_sidecar_serves_its_own_cluster_and_leads_to_the_other() {
        let args = PHX_1.args(Path::new("/d"), "127.0.0.1:9000".parse().unwrap()).join(" ");
        assert_eq!(
            args,
            "sidecar --state-dir /d/payments-1 --overlay 127.0.12.10:0 --serve payments.shop:80=127.0.0.1:9000 \
             --telemetry 127.0.12.10:7445 --drain 2s --listen 127.0.12.10:8080=orders.shop:80"
        );
        let names: Vec<_> = sidecars().into_iter().map(SidecarPlan::name).collect();
        assert_eq!(names, ["orders-1", "payments-1", "payments-2"]);
    }

    #[test]
    fn the_command_line_takes_what_is_planned() {
        let dir = Path::new("/d");
        let lines = gateways(5).into_iter().map(|gateway| gateway.args(dir, Some("cwj1_x")));
        let upstream: SocketAddr = "127.0.0.1:9000".parse().unwrap();
        for args in lines.chain(sidecars().into_iter().map(|sidecar| sidecar.args(dir, upstream))) {
            let line = std::iter::once("causeway".to_owned()).chain(args.clone());
            assert!(Cli::try_parse_from(line).is_ok(), "{args:?}");
        }
    }
}
