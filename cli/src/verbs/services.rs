//! `causeway services`: what can be called, wherever it runs.

mod watch;

use crate::api::{Api, Request};
use crate::context::Target;
use crate::output::{self, Output, Table, list, seconds};
use anyhow::Result;
use causeway_gateway::admin::api::{Offer, Service, ServicePage};
use causeway_model::{ClusterName, ServiceName};

/// The largest page that the admin API gives.
const LARGEST_PAGE: u16 = 1000;

const AFTER: &str = "\
A row is one cluster's offer of a service, nearest first. HEALTHY counts endpoints that take new requests, of all. ORIGIN is \
local or imported (over a link). STALE is for how long that link has been silent.

Examples:
  causeway services
  causeway services payments.shop -o yaml
  causeway services --region us-phoenix-1 --all
  causeway services --watch -o json | jq .";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Only this service
    #[arg(value_name = "SERVICE.NAMESPACE")]
    name: Option<ServiceName>,
    /// Only services that run in this region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only services that this cluster offers
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<ClusterName>,
    /// Show at most so many services
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Show every service, however many there are
    #[arg(long, conflicts_with_all = ["limit", "watch"])]
    all: bool,
    /// Go on and show what changes, until Ctrl-C
    #[arg(long, conflicts_with = "limit")]
    watch: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let api = Api::of(&self.target)?;
        if self.watch {
            return watch::run(&api, &self.request().query("watch", Some("true")), self.output.format);
        }
        let page = if self.all { self.all_pages(&api)? } else { self.page(&api, self.limit, None)? };
        self.output.show(&page, |page| table(&page.services))?;
        if page.next.is_some() {
            output::note(&format!("# there are more than {}; --all shows every one", page.services.len()));
        }
        Ok(())
    }

    fn request(&self) -> Request {
        Request::get("/v1/services")
            .query("name", self.name.as_ref().map(ToString::to_string).as_deref())
            .query("region", self.region.as_deref())
            .query("cluster", self.cluster.as_ref().map(ToString::to_string).as_deref())
    }

    fn page(&self, api: &Api, limit: u16, after: Option<&str>) -> Result<ServicePage> {
        api.send(&self.request().query("limit", Some(&limit.to_string())).query("after", after))
    }

    fn all_pages(&self, api: &Api) -> Result<ServicePage> {
        let mut all = self.page(api, LARGEST_PAGE, None)?;
        while let Some(after) = all.next.take() {
            let page = self.page(api, LARGEST_PAGE, Some(&after))?;
            // a page that does not lead on would be asked for again and again
            all.next = page.next.filter(|next| *next > after);
            all.services.extend(page.services);
        }
        Ok(all)
    }
}

const COLUMNS: [&str; 8] = ["SERVICE", "CLUSTER", "REGION", "ZONES", "PORTS", "HEALTHY", "ORIGIN", "STALE"];

fn table(services: &[Service]) -> String {
    let mut table = Table::new(COLUMNS);
    for service in services {
        for offer in &service.offers {
            table.row(row(&service.name, offer));
        }
        if service.offers.is_empty() {
            table.row([service.name.as_str(), "", "", "", "", "0/0", "", ""].map(str::to_owned));
        }
    }
    table.to_string()
}

fn row(name: &str, offer: &Offer) -> [String; 8] {
    [
        name.to_owned(),
        offer.cluster.clone(),
        offer.region.clone(),
        list(&offer.zones),
        list(&offer.ports),
        format!("{}/{}", offer.healthy, offer.total),
        offer.origin.clone(),
        seconds(offer.stale_for),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn offer(cluster: &str, origin: &str) -> Offer {
        Offer {
            cluster: cluster.into(),
            region: format!("us-{cluster}-1"),
            zones: vec!["AD-1".into(), "AD-2".into()],
            ports: vec!["80/http".into()],
            healthy: 2,
            total: 3,
            origin: origin.into(),
            exported_to: vec![],
            identities: vec![],
            stale_for: (origin == "imported").then_some(65),
            endpoints: vec![],
        }
    }

    pub(crate) fn service(name: &str) -> Service {
        Service { name: name.into(), offers: vec![offer("iad", "local"), offer("phx", "imported")] }
    }

    #[test]
    fn a_row_is_an_offer() {
        let idle = Service { name: "idle.shop".into(), offers: vec![] };
        let expected = "\
SERVICE        CLUSTER  REGION    ZONES      PORTS    HEALTHY  ORIGIN    STALE
payments.shop  iad      us-iad-1  AD-1,AD-2  80/http  2/3      local     -
payments.shop  phx      us-phx-1  AD-1,AD-2  80/http  2/3      imported  1m 5s
idle.shop      -        -         -          -        0/0      -         -";
        assert_eq!(table(&[service("payments.shop"), idle]), expected);
    }
}
