//! Whether the gateway's one UDP port is reached from here: a QUIC handshake as a sidecar that joins makes it.

use super::finding::Finding;
use crate::api::roots;
use crate::context::Access;
use anyhow::{Context, Result, anyhow};
use causeway_gateway::admin::api::{Check, Status};
use causeway_identity::{BundleStore, ServerRule, TrustBundle, client_config, not_after};
use causeway_model::{ClusterId, NodeId, TrustDomain};
use causeway_transport::{
    BootstrapEndpoint, Connection, ConnectionError, TransportSettings, close_reason_text, peer_chain,
};
use causeway_wire::{CloseCode, alpn};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::{sleep, timeout};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long path MTU discovery is waited for.
const DISCOVERY: Duration = Duration::from_secs(1);
/// The gateway's certificate is renewed long before this is left.
const RENEWAL: Duration = Duration::from_secs(3600);

/// A gateway as it is dialled.
struct Gateway {
    tls: Arc<rustls::ClientConfig>,
    cluster: ClusterId,
    node: NodeId,
    /// The largest datagram that paths are tried with, in bytes.
    largest: u16,
}

/// What a handshake showed.
struct Reached {
    after: Duration,
    /// The largest datagram that the path was seen to carry, in bytes.
    datagram: u16,
    certificate_ends: Option<SystemTime>,
}

/// What handshakes with the gateway's addresses show.
pub(super) fn look(access: &Access, status: &Status) -> Vec<Check> {
    let reach = Finding::new("gateway over UDP");
    let addrs = match addresses(&status.listen, &access.file.admin) {
        Ok(addrs) => addrs,
        Err(error) => return vec![reach.failed_by(&error)],
    };
    let probes = dial(access, status).and_then(|gateway| probe_all(&gateway, &addrs));
    match probes {
        Ok(probes) => probes.into_iter().flat_map(|(addr, probe)| judge(addr, probe)).collect(),
        Err(error) => vec![reach.failed_by(&error)],
    }
}

/// The addresses to try: those that the gateway listens on, with the admin API's host for "every address".
fn addresses(listen: &[String], admin: &str) -> Result<BTreeSet<SocketAddr>> {
    let host = admin.trim_start_matches("https://");
    let resolve = || -> Result<Vec<IpAddr>> {
        let found = host.to_socket_addrs().with_context(|| format!("cannot resolve {host}"))?;
        Ok(found.map(|addr| addr.ip()).collect())
    };
    let mut addrs = BTreeSet::new();
    for text in listen {
        let addr: SocketAddr = text
            .parse()
            .map_err(|_| anyhow!("the gateway says that it listens on {text:?}, which is no IP:PORT"))?;
        if addr.ip().is_unspecified() {
            // :: takes both families, 0.0.0.0 one
            let fits = |ip: &IpAddr| addr.is_ipv6() || ip.is_ipv4();
            addrs.extend(resolve()?.into_iter().filter(fits).map(|ip| SocketAddr::new(ip, addr.port())));
        } else {
            addrs.insert(addr);
        }
    }
    if addrs.is_empty() {
        Err(anyhow!("no address to try: the gateway listens on {listen:?}, {host} is of another family"))
    } else {
        Ok(addrs)
    }
}

fn dial(access: &Access, status: &Status) -> Result<Gateway> {
    let trust_domain: TrustDomain = status.trust_domain.parse()?;
    let roots = roots(&access.file.ca, &access.origin)?.iter().map(|root| root.to_vec()).collect();
    let bundles = BundleStore::new();
    bundles.set(TrustBundle::new(trust_domain.clone(), roots)?)?;
    Ok(Gateway {
        tls: client_config(ServerRule::GatewayOf(trust_domain), &bundles, None, alpn::CTL)?,
        cluster: ClusterId::try_from(status.cluster_id)?,
        node: status.node.parse()?,
        largest: TransportSettings::default().datagram_size,
    })
}

type Probe = Result<Reached, String>;

fn probe_all(gateway: &Gateway, addrs: &BTreeSet<SocketAddr>) -> Result<Vec<(SocketAddr, Probe)>> {
    let runtime = causeway_runtime::DataRuntime::build().context("cannot start a runtime")?;
    runtime.block_on(async {
        let mut probes = Vec::new();
        for &addr in addrs {
            probes.push((addr, probe(gateway, addr).await));
        }
        Ok(probes)
    })
}

/// A handshake with `addr`; the error is what went wrong.
async fn probe(gateway: &Gateway, addr: SocketAddr) -> Probe {
    let any: IpAddr =
        if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint =
        BootstrapEndpoint::bind(any, &TransportSettings::default()).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let connecting = endpoint
        .connect(addr, gateway.cluster, gateway.node, gateway.tls.clone(), "gateway")
        .map_err(|error| error.to_string())?;
    let result = match timeout(HANDSHAKE, connecting).await {
        Err(_) | Ok(Err(ConnectionError::TimedOut)) => Err(format!("no answer in {} s", HANDSHAKE.as_secs())),
        Ok(Err(error)) => Err(close_reason_text(&error)),
        Ok(Ok(connection)) => Ok(reached(&connection, begun.elapsed(), gateway.largest).await),
    };
    endpoint.close(CloseCode::Done, "check");
    result
}

async fn reached(connection: &Connection, after: Duration, largest: u16) -> Reached {
    let deadline = Instant::now() + DISCOVERY;
    let datagram = || connection.stats().path.current_mtu;
    while datagram() < largest && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    let chain = peer_chain(connection);
    Reached { after, datagram: datagram(), certificate_ends: chain.and_then(|chain| not_after(&chain).ok()) }
}

/// The checks that follow from one address.
fn judge(addr: SocketAddr, probe: Probe) -> Vec<Check> {
    let reach = Finding::new("gateway over UDP");
    match probe {
        Err(cause) => vec![reach.failed(
            format!("no QUIC connection to {addr}"),
            cause,
            format!("open UDP port {} to this machine, both ways, in host and network firewalls; is this its address?", addr.port()),
        )],
        Ok(reached) => {
            let seen = format!("{addr} answered a QUIC handshake in {} ms", reached.after.as_millis());
            vec![reach.ok(seen), mtu(addr, reached.datagram), certificate(reached.certificate_ends)]
        }
    }
}

fn mtu(addr: SocketAddr, datagram: u16) -> Check {
    let (finding, usual) = (Finding::new("path MTU from here"), TransportSettings::default().datagram_size);
    let seen = format!("datagrams of {datagram} bytes reach {addr}");
    if datagram >= usual {
        return finding.ok(seen);
    }
    finding.warning(
        seen,
        format!("something on the path drops datagrams of {usual} bytes: a tunnel or VPN, or a firewall that drops ICMP"),
        format!("set datagram-size to {datagram} in [transport], or let ICMP \"too big\" through; only speed is lost"),
    )
}

fn certificate(ends: Option<SystemTime>) -> Check {
    let finding = Finding::new("certificate over UDP");
    let fix = "see the gateway's log; `causeway status` says whether the registry takes changes";
    let Some(ends) = ends else {
        return finding.warning("its end cannot be read", "the certificate is malformed", fix);
    };
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    let seen = format!("ends in {}", humantime::format_duration(Duration::from_secs(left.as_secs())));
    if left > RENEWAL {
        finding.ok(seen)
    } else {
        finding.warning(seen, "it should have been renewed by now", fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(listen: &[&str]) -> Vec<String> {
        listen.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_address_means_the_admin_apis_host() {
        let found = |listen: &[&str], admin: &str| {
            let addrs = addresses(&texts(listen), admin)?;
            anyhow::Ok(addrs.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let admin = "https://10.0.0.1:7444";
        assert_eq!(found(&["[::]:7443"], admin).unwrap(), ["10.0.0.1:7443"]);
        assert_eq!(
            found(&["0.0.0.0:7443", "192.0.2.1:7443"], admin).unwrap(),
            ["10.0.0.1:7443", "192.0.2.1:7443"]
        );
        assert!(
            found(&["0.0.0.0:7443"], "https://[::1]:7444")
                .unwrap_err()
                .to_string()
                .contains("another family")
        );
        assert!(found(&["here"], admin).unwrap_err().to_string().contains("no IP:PORT"));
        assert!(found(&[], admin).is_err());
    }

    #[test]
    fn results_are_judged() {
        let addr = "10.0.0.1:7443".parse().unwrap();
        let states = |probe| judge(addr, probe).iter().map(|check| check.state.clone()).collect::<Vec<_>>();
        let reached = |datagram, left| {
            let certificate_ends = Some(SystemTime::now() + Duration::from_secs(left));
            Ok(Reached { after: Duration::from_millis(3), datagram, certificate_ends })
        };
        assert_eq!(states(reached(1452, 86_400)), ["ok", "ok", "ok"]);
        assert_eq!(states(reached(1280, 60)), ["ok", "warning", "warning"]);
        let silent = judge(addr, Err("no answer in 3 s".into()));
        assert_eq!((silent[0].state.as_str(), silent.len()), ("failed", 1));
        assert!(silent[0].fix.as_ref().unwrap().contains("UDP port 7443"));
    }
}
