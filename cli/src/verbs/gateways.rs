//! `causeway gateways`: the gateways of this cluster.

use super::listing::Listing;
use crate::output::{Table, list, rtt, yes_no};
use anyhow::Result;
use causeway_gateway::admin::api::Gateway;

const AFTER: &str = "\
ALIVE and RTT are what the gateway that answers sees of the others; a dash stands for itself. CLUSTER-ADDRS are told to this \
cluster's sidecars and gateways, LINK-ADDRS to linked clusters.

Examples:
  causeway gateways
  causeway gateways -o json";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    listing: Listing,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        self.listing.show("/v1/gateways", table)
    }
}

fn table(gateways: &[Gateway]) -> String {
    let header =
        ["NODE", "ROLE", "REGISTRY", "REGION", "ZONE", "ALIVE", "RTT", "CLUSTER-ADDRS", "LINK-ADDRS"];
    let mut table = Table::new(header);
    for gateway in gateways {
        table.row([
            gateway.node.clone(),
            gateway.role.clone(),
            gateway.registry.clone(),
            gateway.region.clone(),
            gateway.zone.clone(),
            gateway.alive.map_or_else(String::new, |alive| yes_no(alive).to_owned()),
            rtt(gateway.rtt_us),
            list(&gateway.cluster_addrs),
            list(&gateway.link_addrs),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_listed() {
        let gateway = |node: &str, registry: &str, alive: Option<bool>| Gateway {
            node: node.into(),
            role: "gateway".into(),
            registry: registry.into(),
            region: "r".into(),
            zone: "z".into(),
            cluster_addrs: vec!["10.0.0.1:7443".into()],
            link_addrs: vec![],
            alive,
            rtt_us: alive.and_then(|alive| alive.then_some(180)),
        };
        let gateways = [
            gateway("01", "leader", None),
            gateway("02", "learner", Some(true)),
            gateway("03", "none", Some(false)),
        ];
        let expected = "\
NODE  ROLE     REGISTRY  REGION  ZONE  ALIVE  RTT    CLUSTER-ADDRS  LINK-ADDRS
01    gateway  leader    r       z     -      -      10.0.0.1:7443  -
02    gateway  learner   r       z     yes    0.2ms  10.0.0.1:7443  -
03    gateway  none      r       z     no     -      10.0.0.1:7443  -";
        assert_eq!(table(&gateways), expected);
    }
}
