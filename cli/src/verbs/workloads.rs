//! `causeway workloads`: who is attached to this cluster.

use super::listing::Listing;
use crate::output::{Table, list};
use anyhow::Result;
use causeway_gateway::admin::api::Workload;

const AFTER: &str = "\
A workload is one running instance of an application; its id is new at every start. HEALTH is the worst among its services. \
GATEWAYS are those that vouch for it.

Examples:
  causeway workloads
  causeway workloads -o json | jq -r '.[].identity'";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    listing: Listing,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        self.listing.show("/v1/workloads", table)
    }
}

fn table(workloads: &[Workload]) -> String {
    let mut table =
        Table::new(["ID", "IDENTITY", "SERVICES", "REGION", "ZONE", "HEALTH", "GATEWAYS", "RELEASE"]);
    for workload in workloads {
        table.row([
            workload.id.clone(),
            workload.identity.clone(),
            list(&workload.services),
            workload.region.clone(),
            workload.zone.clone(),
            workload.health.clone(),
            list(&workload.gateways),
            workload.release.clone(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_listed() {
        let workload = Workload {
            id: "0a".into(),
            identity: "spiffe://iad.mesh/ns/shop/sa/web".into(),
            services: vec![],
            region: "r".into(),
            zone: "z".into(),
            health: "healthy".into(),
            gateways: vec!["01".into(), "02".into()],
            release: "0.1.0".into(),
        };
        let expected = "\
ID  IDENTITY                          SERVICES  REGION  ZONE  HEALTH   GATEWAYS  RELEASE
0a  spiffe://iad.mesh/ns/shop/sa/web  -         r       z     healthy  01,02     0.1.0";
        assert_eq!(table(&[workload]), expected);
    }
}
