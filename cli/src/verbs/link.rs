//! `causeway link`: the agreements with other clusters.

use super::listing::Listing;
use super::token::whole_seconds;
use crate::api::{Api, Request};
use crate::context::Target;
use crate::failure::Failure;
use crate::output::{self, Output, Table, instant, list, relative, rtt, seconds, yes_no};
use anyhow::{Context, Result};
use causeway_gateway::admin::api::{self, Accept, CreatedToken, Invite, Link, LinkPolicy, Stale};
use causeway_model::{ClusterName, Label};
use causeway_runtime::ConfigDuration;
use causeway_wire::token::{LinkToken, MAX_TOKEN};
use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

/// How long an acceptance may take: the gateway has to reach the other cluster first.
const ACCEPT: Duration = Duration::from_secs(30);
/// How long a new link may take to come up until it is shown as it is: some round trips between the clusters, and a round of probes.
const SETTLE: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// The state of a link that works.
const UP: &str = "up";

/// What `causeway link` can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token with which another cluster links to this one
    Invite(InviteArgs),
    /// Link to the cluster that made a token
    Accept(AcceptArgs),
    /// List the linked clusters
    List(List),
    /// Show a link: gateways, paths, refused offers, root certificates
    Show(Show),
    /// Stop sharing services over a link for a while; connections that stand go on
    Pause(Pause),
    /// Share services over a paused link again
    Resume(Resume),
    /// Change how the services of a linked cluster are used
    Set(Set),
    /// End a link at once: nothing of that cluster is trusted or carried any more
    Remove(Remove),
}

impl Command {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Invite(args) => args.run(),
            Self::Accept(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Show(args) => args.run(),
            Self::Pause(args) => set_paused(&args.target, &args.cluster, true),
            Self::Resume(args) => set_paused(&args.target, &args.cluster, false),
            Self::Set(args) => args.run(),
            Self::Remove(args) => args.run(),
        }
    }
}

const INVITE: &str = "\
Only the token goes to standard output. It holds addresses of this cluster's gateways, the fingerprint of its root \
certificate and a secret that works once: hand it over as you would a password.

Examples:
  causeway link invite --for phx > token
  causeway link accept - < token                # in phx
  causeway link invite --context iad --ttl 5m";

#[derive(Debug, clap::Args)]
#[command(after_help = INVITE)]
pub(crate) struct InviteArgs {
    /// The only cluster that may accept [default: any]
    #[arg(long = "for", value_name = "CLUSTER")]
    for_cluster: Option<ClusterName>,
    /// For how long it may be accepted
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    ttl: ConfigDuration,
    #[command(flatten)]
    target: Target,
}

impl InviteArgs {
    fn run(&self) -> Result<()> {
        let for_cluster = self.for_cluster.as_ref().map(ToString::to_string);
        let body = Invite { for_cluster, ttl_seconds: Some(whole_seconds(self.ttl)?) };
        let made: CreatedToken = Api::of(&self.target)?.post("/v1/links/invite", &body)?;
        let whom = body.for_cluster.as_deref().unwrap_or("any cluster");
        let until = relative(made.expires_at, SystemTime::now());
        output::note(&format!("# link token {} for {whom}, works once, until {until}", made.id));
        output::note("# in the other cluster: causeway link accept TOKEN");
        output::say(&made.token)
    }
}

const ACCEPT_HELP: &str = "\
The two clusters swap trust bundles, gateway addresses and export summaries. Nothing is exported by it: see \
`causeway export`. Where both have a service of the same name, it is merged only in the namespaces that the link allows, \
and definitions of this cluster win.

Examples:
  causeway link accept cwl1_...
  ssh iad-1 causeway link invite --for phx | causeway link accept -
  causeway link accept cwl1_... --merge-namespace shop";

#[derive(Debug, clap::Args)]
#[command(after_help = ACCEPT_HELP)]
pub(crate) struct AcceptArgs {
    /// The token, or - to read it from standard input
    #[arg(value_name = "TOKEN")]
    token: String,
    /// A namespace in which the other cluster's services join local ones of the same name; may be given many times
    /// [default: every namespace]
    #[arg(long = "merge-namespace", value_name = "NAMESPACE")]
    merge_namespaces: Vec<Label>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl AcceptArgs {
    fn run(&self) -> Result<()> {
        let token = if self.token == "-" { read_token(std::io::stdin())? } else { self.token.clone() };
        let parsed: LinkToken = token.parse().map_err(|error: causeway_wire::token::TokenError| {
            Failure::new(error.reason(), error.to_string())
                .fix("make a token with `causeway link invite` in the other cluster")
        })?;
        let namespaces: Vec<_> = self.merge_namespaces.iter().map(ToString::to_string).collect();
        let body = Accept { token, merge_namespaces: (!namespaces.is_empty()).then_some(namespaces) };
        let request = Request::post("/v1/links/accept", &body)?.within(ACCEPT);
        let api = Api::of(&self.target)?;
        let sent = api.send(&request);
        let made: Link = sent.with_context(|| format!("no link to {} was made", parsed.core.cluster))?;
        let link = settled(&api, made);
        self.output.show(&link, details)?;
        output::note(&if link.state == UP {
            format!("# linked to {}; offer it a service with `causeway export SERVICE`", link.cluster)
        } else {
            format!(
                "# linked to {0}, but none of its gateways answers yet: `causeway link show {0}` says when one does, `causeway check` why not",
                link.cluster
            )
        });
        Ok(())
    }
}

/// The new link once it is up, or as it is after [`SETTLE`].
fn settled(api: &Api, mut link: Link) -> Link {
    let path = format!("/v1/links/{}", link.cluster);
    let deadline = Instant::now() + SETTLE;
    while link.state != UP && Instant::now() < deadline {
        std::thread::sleep(LOOK);
        match api.get(&path) {
            Ok(now) => link = now,
            // the link is made whatever becomes of the question
            Err(_) => break,
        }
    }
    link
}

/// A token from a file or pipe.
fn read_token(input: impl Read) -> Result<String> {
    let mut text = String::new();
    // with room for the white space around it
    let limit = MAX_TOKEN as u64 + 1024;
    input.take(limit).read_to_string(&mut text).context("cannot read the token from standard input")?;
    Ok(text.trim().to_owned())
}

const LIST: &str = "\
STATE is up (through other clusters, if some are named), stale (silent: what it offers is used last, or as `causeway link set` says), down (none of its gateways answers), paused, or \
one-way: packets between some two gateways arrive in one direction only, and no two gateways hear each other. While some do, the \
link is up, and `causeway link show` tells which pairs are not.

Examples:
  causeway link list
  causeway link list -o json";

#[derive(Debug, clap::Args)]
#[command(after_help = LIST)]
pub(crate) struct List {
    #[command(flatten)]
    listing: Listing,
}

impl List {
    fn run(&self) -> Result<()> {
        self.listing.show("/v1/links", table)
    }
}

fn table(links: &[Link]) -> String {
    let mut table =
        Table::new(["CLUSTER", "STATE", "STALE", "REGION", "GATEWAYS", "IMPORTS", "EXPORTS", "RELEASE"]);
    for link in links {
        let answering = link.gateways.iter().filter(|gateway| gateway.ports.0 > 0).count();
        table.row([
            link.cluster.clone(),
            state(link),
            seconds(link.stale_for),
            link.region.clone(),
            format!("{answering}/{}", link.gateways.len()),
            link.imports.to_string(),
            link.exports.to_string(),
            link.release.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Whether the link works, and through whom if not directly.
fn state(link: &Link) -> String {
    if link.via.is_empty() {
        link.state.clone()
    } else {
        format!("{} via {}", link.state, link.via.join(", "))
    }
}

const SHOW: &str = "\
Via names the clusters that traffic passes through while none of the linked cluster's gateways answers directly. PORTS is how many of our source ports that gateway answers, RTT what its probes take. The rest is of control connections between \
the gateway that is asked and that one: CTL RTT what heartbeats take, LOSS IN and LOSS OUT what was lost of its and of ours in the last 20 s \
(of those that go over a stream, as they do where datagrams are not allowed, none is while the connection lives). VERDICT is what \
both ends say: up, silent, or which direction is lost; nothing without a connection.

Examples:
  causeway link show phx
  causeway link show phx -o yaml";

#[derive(Debug, clap::Args)]
#[command(after_help = SHOW)]
pub(crate) struct Show {
    /// The linked cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Show {
    fn run(&self) -> Result<()> {
        let link: Link = Api::of(&self.target)?.get(&format!("/v1/links/{}", self.cluster))?;
        self.output.show(&link, details)
    }
}

fn details(link: &Link) -> String {
    let mut facts = Table::headless();
    facts.fact("cluster", format!("{} (id {})", link.cluster, link.cluster_id));
    facts.fact("trust domain", link.trust_domain.as_str());
    facts.fact("region", link.region.as_str());
    facts.fact("state", link.state.as_str());
    facts.fact("via", link.via.join(", "));
    facts.fact("silent for", seconds(link.stale_for));
    facts.fact("linked since", instant(link.established_at));
    facts.fact("imports", format!("{} service(s) that it offers us", link.imports));
    facts.fact("exports", format!("{} service(s) that we offer it", link.exports));
    facts.fact("roots, SHA-256", list(&link.roots));
    facts.fact("release", link.release.clone().unwrap_or_default());
    let paused = [(link.paused, "here"), (link.peer_paused, "by the linked cluster")];
    let paused: Vec<&str> = paused.iter().filter(|(paused, _)| *paused).map(|(_, by)| *by).collect();
    facts.fact("paused", paused.join(", "));
    facts.fact("transit", if link.transit { "on" } else { "off" });
    facts.fact("merges in", list(&link.merge_namespaces));
    facts.fact(
        "when silent",
        match link.stale {
            Stale::ServeLast => "its services are used last".to_owned(),
            Stale::EjectAfter { seconds } => {
                format!("its services are ejected after {} s", seconds.unwrap_or_default())
            }
            Stale::Fence => "its services are not used".to_owned(),
        },
    );
    for refused in &link.refused {
        facts.fact("refused offer", refused.as_str());
    }
    let mut gateways = Table::new([
        "GATEWAY", "ADDRESS", "PORTS", "RTT", "CONTROL", "CTL RTT", "LOSS IN", "LOSS OUT", "VERDICT",
    ]);
    for gateway in &link.gateways {
        let (answering, all) = gateway.ports;
        gateways.row([
            gateway.node.clone(),
            gateway.addr.clone(),
            format!("{answering}/{all}"),
            rtt(gateway.rtt_us),
            yes_no(gateway.control).to_owned(),
            rtt(gateway.rtt_control_us),
            percent(gateway.loss_in),
            percent(gateway.loss_out),
            gateway.verdict.clone().unwrap_or_default(),
        ]);
    }
    format!("{facts}\n\n{gateways}")
}

/// A share in percent; empty for none.
fn percent(share: Option<u8>) -> String {
    share.map_or_else(String::new, |share| format!("{share}%"))
}

const PAUSE: &str = "\
Neither side offers the other anything while the link is paused on one of them: new connections go to other clusters that offer \
the service. The control connections stay, and so do connections of applications that stand.

Examples:
  causeway link pause phx";

#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE)]
pub(crate) struct Pause {
    /// The linked cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    target: Target,
}

const RESUME: &str = "\
Examples:
  causeway link resume phx";

#[derive(Debug, clap::Args)]
#[command(after_help = RESUME)]
pub(crate) struct Resume {
    /// The linked cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    target: Target,
}

fn set_paused(target: &Target, cluster: &ClusterName, paused: bool) -> Result<()> {
    let request = Request::put(&format!("/v1/links/{cluster}/pause"), &api::Pause { paused })?;
    let link: Link = Api::of(target)?.send(&request)?;
    output::say(&format!("the link to {} is {}", link.cluster, if paused { "paused" } else { "resumed" }))
}

const SET: &str = "\
--stale says what becomes of the cluster's services while the link is silent: serve-last (used when nobody else offers them), \
eject (30 s later not at all, or as long as --eject-after says) or fence (not from the first moment).

With --transit on at both ends of the links A-B and B-C, clusters A and C reach each other through B while they do not directly, and can \
be linked through it. B cannot read what passes, and speaks for neither; trust and exports are between A and C.

Examples:
  causeway link set phx --transit on
  causeway link set phx --stale eject --eject-after 30s
  causeway link set phx --merge shop --merge bank
  causeway link set phx --merge '*'";

#[derive(Debug, clap::Args)]
#[command(after_help = SET)]
pub(crate) struct Set {
    /// The linked cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    /// What becomes of its services while the link is silent
    #[arg(long, value_enum)]
    stale: Option<StaleWord>,
    /// After which time of silence they are ejected, with --stale eject
    #[arg(long, value_name = "DURATION", requires = "stale")]
    eject_after: Option<ConfigDuration>,
    /// A namespace in which its services join local ones of the same name, instead of those before; * stands for all, none for none
    #[arg(long, value_name = "NAMESPACE")]
    merge: Vec<String>,
    /// Whether packets between it and other clusters may pass through this one, and those of this cluster through it
    #[arg(long, value_enum, value_name = "ON|OFF")]
    transit: Option<Switch>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StaleWord {
    /// Used when nobody else offers them
    ServeLast,
    /// So for a while, and then not at all
    Eject,
    /// Not used from the first moment
    Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// They may
    On,
    /// They may not
    Off,
}

impl Set {
    fn run(&self) -> Result<()> {
        let path = format!("/v1/links/{}/policy", self.cluster);
        let link: Link = Api::of(&self.target)?.send(&Request::put(&path, &self.policy()?)?)?;
        self.output.show(&link, details)
    }

    fn policy(&self) -> Result<LinkPolicy> {
        let stale = match (self.stale, self.eject_after) {
            (Some(StaleWord::Eject), after) => {
                let seconds = after.map(whole_seconds).transpose()?.map(u32::try_from).transpose()?;
                Some(Stale::EjectAfter { seconds })
            }
            (_, Some(_)) => return Err(super::usage("--eject-after goes with --stale eject")),
            (Some(StaleWord::ServeLast), None) => Some(Stale::ServeLast),
            (Some(StaleWord::Fence), None) => Some(Stale::Fence),
            (None, None) => None,
        };
        let merge_namespaces = match &self.merge[..] {
            [] => None,
            [none] if none == "none" => Some(Vec::new()),
            some => Some(some.to_vec()),
        };
        let transit = self.transit.map(|switch| switch == Switch::On);
        if stale.is_none() && merge_namespaces.is_none() && transit.is_none() {
            return Err(super::usage("nothing to change: give --stale, --merge or --transit"));
        }
        Ok(LinkPolicy { merge_namespaces, stale, transit })
    }
}

const REMOVE: &str = "\
Connections to that cluster break and its services vanish here at once. The other side is told and removes the link, too;
if it cannot be reached, it sees the link as down until it is removed there. Nothing is asked.

Examples:
  causeway link remove phx";

#[derive(Debug, clap::Args)]
#[command(after_help = REMOVE)]
pub(crate) struct Remove {
    /// The linked cluster
    #[arg(value_name = "CLUSTER")]
    cluster: ClusterName,
    #[command(flatten)]
    target: Target,
}

impl Remove {
    fn run(&self) -> Result<()> {
        Api::of(&self.target)?.delete(&format!("/v1/links/{}", self.cluster))?;
        output::say(&format!("the link to {} is removed", self.cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_gateway::admin::api::LinkGateway;

    fn link() -> Link {
        let gateway = |node: &str, ports, rtt_us: Option<u32>| LinkGateway {
            node: node.into(),
            addr: "192.0.2.1:7443".into(),
            ports,
            rtt_us,
            control: rtt_us.is_some(),
            rtt_control_us: rtt_us.map(|us| us + 300),
            loss_in: rtt_us.map(|_| 0),
            loss_out: rtt_us.map(|_| 12),
            verdict: rtt_us.map(|_| "up".into()),
        };
        Link {
            cluster: "phx".into(),
            cluster_id: 77,
            trust_domain: "phx.mesh".into(),
            region: "us-phoenix-1".into(),
            state: "stale".into(),
            stale_for: Some(12),
            established_at: 1_700_000_000,
            imports: 3,
            exports: 1,
            refused: vec!["x.y: identity of iad.mesh".into()],
            gateways: vec![gateway("01", (2, 2), Some(40_100)), gateway("02", (0, 2), None)],
            roots: vec!["ab".into()],
            release: None,
            paused: false,
            peer_paused: true,
            merge_namespaces: vec!["*".into()],
            stale: Stale::EjectAfter { seconds: Some(30) },
            transit: false,
            via: Vec::new(),
        }
    }

    #[test]
    fn links_are_listed() {
        let expected = "\
CLUSTER  STATE  STALE  REGION        GATEWAYS  IMPORTS  EXPORTS  RELEASE
phx      stale  12s    us-phoenix-1  1/2       3        1        -";
        assert_eq!(table(&[link()]), expected);
        let through = Link { state: "up".into(), via: vec!["lhr".into(), "77".into()], ..link() };
        let listed = table(std::slice::from_ref(&through));
        assert!(listed.contains("phx      up via lhr, 77  12s"), "{listed}");
        let shown = details(&through);
        assert!(shown.contains("via             lhr, 77\n"), "{shown}");
        assert!(shown.contains("transit         off\n"), "{shown}");
    }

    #[test]
    fn a_link_is_shown_with_its_paths() {
        let shown = details(&link());
        let expected = "\
GATEWAY  ADDRESS         PORTS  RTT     CONTROL  CTL RTT  LOSS IN  LOSS OUT  VERDICT
01       192.0.2.1:7443  2/2    40.1ms  yes      40.4ms   0%       12%       up
02       192.0.2.1:7443  0/2    -       no       -        -        -         -";
        assert!(shown.ends_with(expected), "{shown}");
        assert!(shown.starts_with("cluster         phx (id 77)\n"), "{shown}");
        assert!(shown.contains("refused offer   x.y: identity of iad.mesh\n"), "{shown}");
    }

    #[test]
    fn a_token_is_read_without_what_surrounds_it() {
        assert_eq!(read_token(" cwl1_abc\n\n".as_bytes()).unwrap(), "cwl1_abc");
        let endless = read_token(std::io::repeat(b'x')).unwrap();
        assert!(endless.len() <= MAX_TOKEN + 1024);
    }
}
