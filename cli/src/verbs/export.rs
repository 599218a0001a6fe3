//! `causeway export`, `unexport` and `exports`: what is offered to linked clusters.

use super::listing::Listing;
use crate::api::{Api, Request};
use crate::context::Target;
use crate::output::{self, Output, Table, list};
use anyhow::Result;
use causeway_gateway::admin::api::{Export as Exported, ExportTo};
use causeway_model::{ClusterName, ServiceName};

const EXPORT: &str = "\
The export replaces an earlier one of the same service. Clusters that are linked later get it, too. Whether a peer \
may call the service is checked again at each connection and stream.

Examples:
  causeway export payments.shop                # to every linked cluster
  causeway export payments.shop --to phx,fra   # to these only";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT)]
pub(crate) struct Export {
    /// The service
    #[arg(value_name = "SERVICE.NAMESPACE")]
    service: ServiceName,
    /// A cluster to offer it to; may be given many times or as a list [default: every linked cluster]
    #[arg(long, value_name = "CLUSTER", value_delimiter = ',')]
    to: Vec<ClusterName>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Export {
    pub(crate) fn run(&self) -> Result<()> {
        let to: Vec<_> = self.to.iter().map(ToString::to_string).collect();
        let body = ExportTo { to: (!to.is_empty()).then_some(to) };
        let request = Request::put(&format!("/v1/exports/{}", self.service), &body)?;
        let export: Exported = Api::of(&self.target)?.send(&request)?;
        self.output.show(&export, |export| table(std::slice::from_ref(export)))?;
        if !export.not_linked.is_empty() {
            output::note(&format!("# not linked yet: {}; see `causeway link`", list(&export.not_linked)));
        }
        Ok(())
    }
}

const UNEXPORT: &str = "\
Streams that run to the service from there are ended; new ones are refused.

Examples:
  causeway unexport payments.shop              # from every cluster
  causeway unexport payments.shop --from phx   # from one that was named";

#[derive(Debug, clap::Args)]
#[command(after_help = UNEXPORT)]
pub(crate) struct Unexport {
    /// The service
    #[arg(value_name = "SERVICE.NAMESPACE")]
    service: ServiceName,
    /// The cluster to withdraw it from [default: all]
    #[arg(long, value_name = "CLUSTER")]
    from: Option<ClusterName>,
    #[command(flatten)]
    target: Target,
}

impl Unexport {
    pub(crate) fn run(&self) -> Result<()> {
        let from = self.from.as_ref().map(ToString::to_string);
        let request =
            Request::delete(&format!("/v1/exports/{}", self.service)).query("from", from.as_deref());
        let _: serde_json::Value = Api::of(&self.target)?.send(&request)?;
        let whom = from.as_deref().unwrap_or("any cluster");
        output::say(&format!("{} is no longer exported to {whom}", self.service))
    }
}

const EXPORTS: &str = "\
* stands for every linked cluster. NOT-LINKED are clusters named in an export without a link yet.

Examples:
  causeway exports
  causeway exports -o yaml";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORTS)]
pub(crate) struct Exports {
    #[command(flatten)]
    listing: Listing,
}

impl Exports {
    pub(crate) fn run(&self) -> Result<()> {
        self.listing.show("/v1/exports", table)
    }
}

fn table(exports: &[Exported]) -> String {
    let mut table = Table::new(["SERVICE", "TO", "NOT-LINKED", "HANDLE"]);
    for export in exports {
        table.row([
            export.service.clone(),
            list(&export.to),
            list(&export.not_linked),
            export.handle.clone(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_listed() {
        let export = |service: &str, to: &[&str], not_linked: &[&str]| Exported {
            service: service.into(),
            handle: "00ff".into(),
            to: to.iter().map(ToString::to_string).collect(),
            not_linked: not_linked.iter().map(ToString::to_string).collect(),
        };
        let expected = "\
SERVICE        TO       NOT-LINKED  HANDLE
payments.shop  *        -           00ff
orders.shop    fra,phx  fra         00ff";
        let exports =
            [export("payments.shop", &["*"], &[]), export("orders.shop", &["fra", "phx"], &["fra"])];
        assert_eq!(table(&exports), expected);
    }
}
