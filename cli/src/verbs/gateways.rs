//! `causeway gateways`: the gateways of this cluster, and taking one out of use.

use super::listing::Listing;
use crate::api::{Api, Request};
use crate::context::Target;
use crate::failure::Failure;
use crate::output::{self, Table, list, rtt, yes_no};
use anyhow::Result;
use causeway_gateway::admin::api::{Drain, Gateway};
use causeway_runtime::ConfigDuration;
use serde::Deserialize;
use std::time::{Duration, Instant};

const AFTER: &str = "\
ALIVE and RTT are what the gateway that answers sees of the others; a dash stands for itself. LAG is by how many revisions a \
replica of the registry is behind, SIDECARS how many are attached, PACKETS/S what it forwards. CLUSTER-ADDRS are told to this \
cluster's sidecars and gateways, LINK-ADDRS to linked clusters.

Examples:
  causeway gateways
  causeway gateways -o json
  causeway gateways drain 5f1c2a9b00d4e6f7
  causeway gateways remove 5f1c2a9b00d4e6f7";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Drain(DrainArgs),
    Undrain(UndrainArgs),
    Remove(RemoveArgs),
}

/// Takes a gateway out of use: sidecars and linked clusters turn to others, and it can be stopped unnoticed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A drained gateway goes on forwarding what reaches it, keeps its replica of the registry, and hands its lead and its vote to \
another gateway where there is one. It stays drained until `undrain`, over restarts, too.

Examples:
  causeway gateways drain 5f1c2a9b00d4e6f7
  causeway gateways drain 5f1c --wait 30s")]
struct DrainArgs {
    /// The gateway: its node id, or the beginning of it
    #[arg(value_name = "NODE")]
    node: String,
    /// Wait until no sidecar is attached to it, for so long at most; 0s returns at once
    #[arg(long, value_name = "TIME", default_value = "15s")]
    wait: ConfigDuration,
    #[command(flatten)]
    target: Target,
}

/// Takes a drained gateway into use again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  causeway gateways undrain 5f1c2a9b00d4e6f7")]
struct UndrainArgs {
    /// The gateway: its node id, or the beginning of it
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    target: Target,
}

/// Removes a gateway for good, whether it works, hangs or is dead
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The gateway is no member of the registry any more and its calls are refused; if it still runs, it ends. Drain it first when it \
works. Its node id is never used again: to bring the host back, join with a new --data-dir and a new token.

Whoever had its disk has the key that seals the cluster's certificate authority: if it was stolen, run `causeway ca rotate`, too.

Examples:
  causeway gateways remove 5f1c2a9b00d4e6f7")]
struct RemoveArgs {
    /// The gateway: its node id, or the beginning of it
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        match &self.verb {
            None => self.listing.show("/v1/gateways", table),
            Some(Verb::Drain(args)) => args.run(),
            Some(Verb::Undrain(args)) => args.run(),
            Some(Verb::Remove(args)) => args.run(),
        }
    }
}

impl DrainArgs {
    fn run(&self) -> Result<()> {
        let api = Api::of(&self.target)?;
        let node = find(&api, &self.node)?;
        let mut gateway = set_draining(&api, &node, true)?;
        let deadline = Instant::now() + Duration::from(self.wait);
        while gateway.attached.is_some_and(|attached| attached > 0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
            gateway = api.get(&format!("/v1/gateways/{node}"))?;
        }
        let said = match gateway.attached {
            Some(0) => {
                format!("gateway {node} is drained: no sidecar is attached to it, and it can be stopped")
            }
            Some(left) => format!("gateway {node} drains: {left} sidecars are still attached to it"),
            None => format!("gateway {node} is marked as drained; it does not say how it is doing"),
        };
        output::say(&said)
    }
}

impl UndrainArgs {
    fn run(&self) -> Result<()> {
        let api = Api::of(&self.target)?;
        let node = find(&api, &self.node)?;
        set_draining(&api, &node, false)?;
        output::say(&format!("gateway {node} is in use again"))
    }
}

/// The answer to a removal.
#[derive(Debug, Deserialize)]
struct Removed {
    left: bool,
}

impl RemoveArgs {
    fn run(&self) -> Result<()> {
        let api = Api::of(&self.target)?;
        let node = find(&api, &self.node)?;
        let removed: Removed = api.send(&Request::delete(&format!("/v1/gateways/{node}")))?;
        output::say(&if removed.left {
            format!("gateway {node} is removed")
        } else {
            format!("gateway {node} is removed; the registry's other members are about to go on without it")
        })
    }
}

fn set_draining(api: &Api, node: &str, draining: bool) -> Result<Gateway> {
    api.send(&Request::put(&format!("/v1/gateways/{node}/drain"), &Drain { draining })?)
}

/// The one gateway whose node id begins with `start`.
fn find(api: &Api, start: &str) -> Result<String> {
    let gateways: Vec<Gateway> = api.get("/v1/gateways")?;
    Ok(only(&gateways, start)?)
}

fn only(gateways: &[Gateway], start: &str) -> Result<String, Failure> {
    let wanted = start.to_ascii_lowercase();
    let found: Vec<&str> = gateways
        .iter()
        .map(|gateway| gateway.node.as_str())
        .filter(|node| node.starts_with(&wanted))
        .collect();
    match found[..] {
        [one] if !wanted.is_empty() => Ok(one.to_owned()),
        [] => Err(Failure::new(
            "gateway-unknown",
            format!("no gateway of this cluster has a node id that begins with {start:?}"),
        )
        .fix("list them with `causeway gateways`")),
        _ => Err(Failure::new(
            "gateway-ambiguous",
            format!("{start:?} is the beginning of {} node ids: {}", found.len(), found.join(", ")),
        )
        .fix("give more of it")),
    }
}

fn table(gateways: &[Gateway]) -> String {
    let header = [
        "NODE",
        "ROLE",
        "REGISTRY",
        "STATE",
        "ZONE",
        "ALIVE",
        "RTT",
        "LAG",
        "SIDECARS",
        "PACKETS/S",
        "CLUSTER-ADDRS",
        "LINK-ADDRS",
    ];
    let mut table = Table::new(header);
    let count = |value: Option<String>| value.unwrap_or_default();
    for gateway in gateways {
        table.row([
            gateway.node.clone(),
            gateway.role.clone(),
            gateway.registry.clone(),
            if gateway.draining { "draining" } else { "in use" }.to_owned(),
            gateway.zone.clone(),
            gateway.alive.map_or_else(String::new, |alive| yes_no(alive).to_owned()),
            rtt(gateway.rtt_us),
            count(gateway.lag.map(|lag| lag.to_string())),
            count(gateway.attached.map(|attached| attached.to_string())),
            count(gateway.packets_per_second.map(|rate| rate.to_string())),
            list(&gateway.cluster_addrs),
            list(&gateway.link_addrs),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(node: &str, registry: &str, alive: Option<bool>) -> Gateway {
        Gateway {
            node: node.into(),
            role: "gateway".into(),
            registry: registry.into(),
            region: "r".into(),
            zone: "z".into(),
            cluster_addrs: vec!["10.0.0.1:7443".into()],
            link_addrs: vec![],
            alive,
            rtt_us: alive.and_then(|alive| alive.then_some(180)),
            draining: registry == "learner",
            lag: alive.filter(|alive| *alive).map(|_| 0),
            attached: alive.filter(|alive| *alive).map(|_| 7),
            packets_per_second: None,
            release: None,
            up_seconds: None,
            heard_ms_ago: None,
        }
    }

    #[test]
    fn gateways_are_listed() {
        let gateways = [
            gateway("01", "leader", None),
            gateway("02", "learner", Some(true)),
            gateway("03", "none", Some(false)),
        ];
        let expected = "\
NODE  ROLE     REGISTRY  STATE     ZONE  ALIVE  RTT    LAG  SIDECARS  PACKETS/S  CLUSTER-ADDRS  LINK-ADDRS
01    gateway  leader    in use    z     -      -      -    -         -          10.0.0.1:7443  -
02    gateway  learner   draining  z     yes    0.2ms  0    7         -          10.0.0.1:7443  -
03    gateway  none      in use    z     no     -      -    -         -          10.0.0.1:7443  -";
        assert_eq!(table(&gateways), expected);
    }

    #[test]
    fn a_gateway_is_found_by_the_beginning_of_its_id() {
        let gateways =
            [gateway("01ab", "leader", None), gateway("01cd", "voter", None), gateway("02", "voter", None)];
        assert_eq!(only(&gateways, "02").unwrap(), "02");
        assert_eq!(only(&gateways, "01CD").unwrap(), "01cd");
        for (start, reason) in
            [("01", "gateway-ambiguous"), ("", "gateway-ambiguous"), ("9", "gateway-unknown")]
        {
            assert_eq!(only(&gateways, start).unwrap_err().reason, reason, "{start}");
        }
    }
}
