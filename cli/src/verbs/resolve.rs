//! `causeway resolve`: a service endpoint by endpoint.

use crate::api::Api;
use crate::context::Target;
use crate::output::{Output, Table, seconds};
use anyhow::Result;
use causeway_gateway::admin::api::Service;
use causeway_model::ServiceName;

const AFTER: &str = "\
Local endpoints are all known; of another cluster only those that are in use here are told, and the rest is its gateways' \
choice: such an offer has a row without a workload, with what is healthy there.

Examples:
  causeway resolve payments.shop
  causeway resolve payments.shop -o yaml";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The service
    #[arg(value_name = "SERVICE.NAMESPACE")]
    name: ServiceName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let service: Service = Api::of(&self.target)?.get(&format!("/v1/resolve/{}", self.name))?;
        self.output.show(&service, table)
    }
}

fn table(service: &Service) -> String {
    let mut table =
        Table::new(["CLUSTER", "REGION", "ZONE", "WORKLOAD", "HEALTH", "WEIGHT", "ORIGIN", "STALE"]);
    for offer in &service.offers {
        let (cluster, origin, stale) = (&offer.cluster, &offer.origin, seconds(offer.stale_for));
        for endpoint in &offer.endpoints {
            table.row([
                cluster.clone(),
                endpoint.region.clone(),
                endpoint.zone.clone(),
                endpoint.workload.clone(),
                endpoint.health.clone(),
                endpoint.weight.to_string(),
                origin.clone(),
                stale.clone(),
            ]);
        }
        if offer.endpoints.is_empty() {
            let health = format!("{}/{} healthy", offer.healthy, offer.total);
            let (region, none) = (offer.region.clone(), String::new);
            table.row([cluster.clone(), region, none(), none(), health, none(), origin.clone(), stale]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::services::tests::service;
    use super::*;
    use causeway_gateway::admin::api::Endpoint;

    #[test]
    fn endpoints_are_listed_and_offers_without_any() {
        let mut service = service("payments.shop");
        service.offers[0].endpoints.push(Endpoint {
            workload: "0a".into(),
            region: "us-iad-1".into(),
            zone: "AD-1".into(),
            health: "healthy".into(),
            weight: 100,
        });
        let expected = "\
CLUSTER  REGION    ZONE  WORKLOAD  HEALTH       WEIGHT  ORIGIN    STALE
iad      us-iad-1  AD-1  0a        healthy      100     local     -
phx      us-phx-1  -     -         2/3 healthy  -       imported  1m 5s";
        assert_eq!(table(&service), expected);
    }
}
