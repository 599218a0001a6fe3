//! `causeway services show`: everything that a gateway knows of one service.

use crate::api::Api;
use crate::context::Target;
use crate::output::{Output, Table, instant, list, rtt, seconds, yes_no};
use anyhow::Result;
use causeway_gateway::admin::api::{OfferDetail, ServiceDetail};
use causeway_model::ServiceName;

const AFTER: &str = "\
Its virtual addresses (vip) are there once a sidecar asked for them. Each cluster's offer comes with its ports, identities and endpoints, the link that it came over, and the gateways of that \
cluster as the answering one reaches them. Offers that do not count here are named with the reason. Of a linked cluster only the \
endpoints in use here are known.

Examples:
  causeway services show payments.shop
  causeway services show payments.shop -o json | jq '.offers[].endpoints'";

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
    pub(super) fn run(&self) -> Result<()> {
        let detail: ServiceDetail = Api::of(&self.target)?.get(&format!("/v1/services/{}", self.name))?;
        self.output.show(&detail, text)
    }
}

fn text(detail: &ServiceDetail) -> String {
    let mut parts = vec![facts(detail)];
    parts.extend(detail.offers.iter().map(offer));
    if !detail.left_out.is_empty() {
        let mut table = Table::new(["LEFT OUT", "REASON", "WHY"]);
        for left_out in &detail.left_out {
            table.row([left_out.cluster.clone(), left_out.reason.clone(), left_out.why.clone()]);
        }
        parts.push(table.to_string());
    }
    parts.join("\n\n")
}

fn facts(detail: &ServiceDetail) -> String {
    let (healthy, total) = detail.offers.iter().fold((0_u64, 0_u64), |(healthy, total), detail| {
        (healthy + u64::from(detail.offer.healthy), total + u64::from(detail.offer.total))
    });
    let clusters: Vec<String> = detail.offers.iter().map(|detail| detail.offer.cluster.clone()).collect();
    let mut table = Table::headless();
    table.fact("service", detail.name.clone());
    table.fact("clusters", list(&clusters));
    table.fact("healthy", format!("{healthy} of {total}"));
    for vip in &detail.vips {
        let what = vip
            .name
            .split_once('@')
            .map_or_else(|| "vip".to_owned(), |(_, cluster)| format!("vip at {cluster}"));
        table.fact(&what, format!("{}, {}", vip.v4, vip.v6));
    }
    table.fact("told by", format!("gateway {} at revision {}", detail.node, detail.revision));
    table.to_string()
}

fn offer(detail: &OfferDetail) -> String {
    let offer = &detail.offer;
    let mut table = Table::headless();
    table.fact("cluster", format!("{} ({})", offer.cluster, offer.origin));
    table.fact("region", offer.region.clone());
    table.fact("zones", list(&offer.zones));
    table.fact("ports", list(&offer.ports));
    table.fact("identities", list(&offer.identities));
    table.fact("healthy", format!("{} of {}", offer.healthy, offer.total));
    if offer.origin == "local" {
        table.fact("exported to", list(&offer.exported_to));
    }
    if let Some(link) = &detail.link {
        table.fact("link", format!("{}, made {}", link.state, instant(link.established_at)));
    }
    if offer.stale_for.is_some() {
        table.fact("stale for", seconds(offer.stale_for));
    }
    let mut parts = vec![table.to_string()];
    parts.extend(gateways(detail));
    parts.extend(endpoints(detail));
    parts.join("\n")
}

fn gateways(detail: &OfferDetail) -> Option<String> {
    let mut table = Table::new(["  GATEWAY", "ADDRESS", "ANSWERS", "RTT"]);
    for gateway in &detail.gateways {
        table.row([
            format!("  {}", gateway.node),
            gateway.addr.clone().unwrap_or_default(),
            yes_no(gateway.answers).to_owned(),
            rtt(gateway.rtt_us),
        ]);
    }
    (!detail.gateways.is_empty()).then(|| table.to_string())
}

fn endpoints(detail: &OfferDetail) -> Option<String> {
    let known = &detail.offer.endpoints;
    let mut table = Table::new(["  ENDPOINT", "REGION", "ZONE", "HEALTH", "WEIGHT"]);
    for endpoint in known {
        table.row([
            format!("  {}", endpoint.workload),
            endpoint.region.clone(),
            endpoint.zone.clone(),
            endpoint.health.clone(),
            endpoint.weight.to_string(),
        ]);
    }
    (!known.is_empty()).then(|| table.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::offer as an_offer;
    use super::*;
    use causeway_gateway::admin::api::{Endpoint, LeftOut, PathGateway, ServiceLink, ServiceVip};

    #[test]
    fn everything_is_shown_once() {
        let mut local = an_offer("iad", "local");
        local.exported_to = vec!["*".into()];
        local.endpoints = vec![Endpoint {
            workload: "0a".into(),
            region: "us-iad-1".into(),
            zone: "AD-1".into(),
            health: "healthy".into(),
            weight: 100,
        }];
        let gateway = |node: &str, addr: Option<&str>, answers, rtt_us| PathGateway {
            node: node.into(),
            addr: addr.map(str::to_owned),
            answers,
            rtt_us,
        };
        let vip = |name: &str, number| {
            let vip = causeway_model::Vip::new(number).unwrap();
            ServiceVip { name: name.into(), v4: vip.v4(), v6: vip.v6() }
        };
        let detail = ServiceDetail {
            name: "payments.shop".into(),
            node: "01".into(),
            revision: 7,
            took_us: 400,
            vips: vec![vip("payments.shop", 0x0001_0203), vip("payments.shop@phx", 7)],
            offers: vec![
                OfferDetail { offer: local, link: None, gateways: vec![gateway("01", None, true, None)] },
                OfferDetail {
                    offer: an_offer("phx", "imported"),
                    link: Some(ServiceLink { state: "stale".into(), stale_for: Some(65), established_at: 0 }),
                    gateways: vec![gateway("03", Some("192.0.2.1:7443"), false, Some(80_000))],
                },
            ],
            left_out: vec![LeftOut {
                cluster: "fra".into(),
                reason: "missing-port".into(),
                why: "it lacks a port".into(),
            }],
        };
        let expected = "\
service     payments.shop
clusters    iad,phx
healthy     4 of 6
vip         240.1.2.3, fd9c:43a6:77c1::1:203
vip at phx  240.0.0.7, fd9c:43a6:77c1::7
told by     gateway 01 at revision 7

cluster      iad (local)
region       us-iad-1
zones        AD-1,AD-2
ports        80/http
identities   -
healthy      2 of 3
exported to  *
  GATEWAY  ADDRESS  ANSWERS  RTT
  01       -        yes      -
  ENDPOINT  REGION    ZONE  HEALTH   WEIGHT
  0a        us-iad-1  AD-1  healthy  100

cluster     phx (imported)
region      us-phx-1
zones       AD-1,AD-2
ports       80/http
identities  -
healthy     2 of 3
link        stale, made 1970-01-01T00:00:00Z
stale for   1m 5s
  GATEWAY  ADDRESS         ANSWERS  RTT
  03       192.0.2.1:7443  no       80.0ms

LEFT OUT  REASON        WHY
fra       missing-port  it lacks a port";
        assert_eq!(text(&detail), expected);
    }
}
