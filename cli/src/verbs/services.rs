//! `causeway services`: what can be called, wherever it runs.
//!
//! Here are the flags and what is asked; `services/list.rs` shows pages, `services/rows.rs` makes rows of services,
//! `services/show.rs` shows one in detail, `services/watch.rs` follows changes.

mod list;
mod rows;
mod show;
mod watch;

use crate::api::{Api, Request};
use crate::context::Target;
use crate::output::{ListFormat, ListOutput};
use anyhow::Result;
use causeway_gateway::admin::api::SortBy;
use causeway_model::{ClusterName, Label, ServiceName, ServicePort};
use causeway_runtime::ConfigDuration;
use clap::ValueEnum;

const AFTER: &str = "\
A row is one cluster's offer of a service, nearest first. HEALTHY counts endpoints that take new requests, of all. ORIGIN is \
local or imported (over a link). STALE is for how long that link has been silent.

What is asked of an offer (--region, --zone, --cluster, --health, --stale, --origin, --port) must hold for one offer of the \
service; all its offers are shown. Services come in the order of namespaces, then names, unless --sort says otherwise.

Examples:
  causeway services
  causeway services payments.shop -o yaml
  causeway services --name 'pay*.shop' -o wide
  causeway services --namespace shop --health unhealthy
  causeway services --cluster phx --stale --sort stale --limit 20
  causeway services --port 80/http --origin imported -o name
  causeway services --region us-phoenix-1 --all -o json | jq .name
  causeway services --after payments.shop --limit 1000
  causeway services --watch -o json | jq .
  causeway services show payments.shop";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    which: Which,
    /// Put them in this order; another one than by name looks at every service
    #[arg(long, value_enum, value_name = "ORDER", default_value_t, conflicts_with_all = ["after", "watch"])]
    sort: Order,
    /// Show at most so many services
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Show those that come after this name, whether or not it exists
    #[arg(long, value_name = "SERVICE.NAMESPACE", conflicts_with = "watch")]
    after: Option<ServiceName>,
    /// Show every service, however many there are, page by page as they come
    #[arg(long, conflicts_with_all = ["limit", "watch"])]
    all: bool,
    /// Go on and show what changes, until Ctrl-C; a lost connection is made again and nothing is shown twice
    #[arg(long, conflicts_with = "limit")]
    watch: bool,
    /// For how long a watch tries to connect again before it gives up: 30s, 5m; 0s for not at all
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "watch")]
    patience: ConfigDuration,
    #[command(flatten)]
    output: ListOutput,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show everything about one service: offers, endpoints, links, paths, and what was left out
    Show(show::Args),
}

/// Which services are meant.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which services")]
struct Which {
    /// Only this service
    #[arg(value_name = "SERVICE.NAMESPACE", conflicts_with = "pattern")]
    name: Option<ServiceName>,
    /// Only services of such names: SERVICE.NAMESPACE or SERVICE, in which * stands for any characters
    #[arg(long = "name", value_name = "PATTERN", id = "pattern")]
    pattern: Option<String>,
    /// Only services of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<Label>,
    /// Only services that a cluster in this region offers
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only services with endpoints in this zone (availability domain)
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Only services that this cluster offers
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<ClusterName>,
    /// Only services with an offer in this health
    #[arg(long, value_enum, value_name = "HEALTH")]
    health: Option<Health>,
    /// Only services with an offer whose link is silent
    #[arg(long)]
    stale: bool,
    /// Only services with an offer from there
    #[arg(long, value_enum, value_name = "ORIGIN")]
    origin: Option<Origin>,
    /// Only services with this port: 80, or 80/http to name the protocol (tcp, udp, http or grpc) too
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Health {
    /// At least one endpoint takes new requests
    Healthy,
    /// There are endpoints, but none takes new requests
    Unhealthy,
    /// There is no endpoint
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Origin {
    /// This cluster
    Local,
    /// A linked cluster
    Imported,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Order {
    /// By namespace, then name
    #[default]
    Name,
    /// By the cluster of the nearest offer
    Cluster,
    /// The fewest healthy endpoints first
    Healthy,
    /// Stale for the longest time first
    Stale,
}

impl From<Order> for SortBy {
    fn from(order: Order) -> Self {
        match order {
            Order::Name => Self::Name,
            Order::Cluster => Self::Cluster,
            Order::Healthy => Self::Healthy,
            Order::Stale => Self::Stale,
        }
    }
}

/// A port as the admin API takes it.
fn port(text: &str) -> Result<String, causeway_model::ParseError> {
    text.parse::<ServicePort>().map(|_| text.to_owned())
}

/// The word of a value, which is the admin API's.
fn word(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

impl Which {
    fn request(&self) -> Request {
        let name = self.name.as_ref().map(ToString::to_string).or_else(|| self.pattern.clone());
        Request::get("/v1/services")
            .query("name", name.as_deref())
            .query("namespace", self.namespace.as_ref().map(Label::as_str))
            .query("region", self.region.as_deref())
            .query("zone", self.zone.as_deref())
            .query("cluster", self.cluster.as_ref().map(ClusterName::as_str))
            .query("health", self.health.as_ref().and_then(word).as_deref())
            .query("stale", self.stale.then_some("true"))
            .query("origin", self.origin.as_ref().and_then(word).as_deref())
            .query("port", self.port.as_deref())
    }
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(Command::Show(args)) = &self.command {
            return args.run();
        }
        let (api, request, format) = (Api::of(&self.target)?, self.which.request(), self.output.format);
        if self.watch {
            return watch::run(&api, &request.query("watch", Some("true")), format, self.patience.into());
        }
        let list = list::List { api: &api, request, after: self.after.as_ref(), order: self.sort, format };
        match (self.all, self.sort) {
            (false, _) => list.first(self.limit),
            (true, Order::Name) => list.all(),
            (true, _) => list.all_sorted(),
        }
    }
}

/// Whether a format is a table, and whether a wide one.
fn table_of(format: ListFormat) -> Option<rows::Width> {
    match format {
        ListFormat::Table => Some(rows::Width::Plain),
        ListFormat::Wide => Some(rows::Width::Wide),
        ListFormat::Json | ListFormat::Yaml | ListFormat::Name => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use causeway_gateway::admin::api::{Offer, Service};
    use clap::Parser;

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

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(format!("services {line}").split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn flags_become_the_query() {
        let args = parse(
            "--name pay*.shop --namespace shop --region r --zone AD-1 --cluster phx --health none --stale --origin imported \
             --port 80/http",
        );
        let expected = "/v1/services?name=pay%2A.shop&namespace=shop&region=r&zone=AD-1&cluster=phx&health=none&stale=true\
                        &origin=imported&port=80%2Fhttp";
        assert_eq!(args.unwrap().which.request().path(), expected);
        assert_eq!(parse("a.b").unwrap().which.request().path(), "/v1/services?name=a.b");
        assert_eq!(parse("").unwrap().which.request().path(), "/v1/services");
    }

    #[test]
    fn show_is_a_verb_and_not_a_name() {
        assert!(matches!(parse("show a.b").unwrap().command, Some(Command::Show(_))));
        assert!(parse("show a.b").unwrap().which.name.is_none());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for line in [
            "a.b --name c.d",
            "--all --limit 5",
            "--all --watch",
            "--watch --limit 5",
            "--watch --sort stale",
            "--watch --after a.b",
            "--after a.b --sort stale",
            "--patience 5m",
            "--patience 5 --watch",
            "--port 0",
            "--port 80/x",
            "--health sick",
            "--namespace a.b",
            "--colour red",
            "--all show a.b",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
