//! `causeway status`: a gateway and its cluster at a glance.

use crate::api::Api;
use crate::context::Target;
use crate::output::{Output, Table, list, relative, seconds, yes_no};
use anyhow::Result;
use causeway_gateway::admin::api::{LinkState, Packets, Registry, Status};
use std::time::SystemTime;

const AFTER: &str = "\
Whether something is wrong, and what to do about it, says `causeway check`.

Examples:
  causeway status
  causeway status --context phx -o json | jq .registry";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(crate) fn run(&self) -> Result<()> {
        let status: Status = Api::of(&self.target)?.get("/v1/status")?;
        self.output.show(&status, |status| table(status, SystemTime::now()))
    }
}

fn table(status: &Status, now: SystemTime) -> String {
    let mut facts = Table::headless();
    facts.fact("cluster", format!("{} (id {}, {})", status.cluster, status.cluster_id, status.trust_domain));
    facts.fact("gateway", format!("{} ({}, release {})", status.node, status.role, status.release));
    facts.fact("runs in", format!("{} {}", status.region, status.zone));
    facts.fact("ready", ready(status));
    facts.fact("listens on", list(&status.listen));
    facts.fact("registry", registry(&status.registry));
    facts.fact("voters", list(&status.registry.voters));
    facts.fact("learners", list(&status.registry.learners));
    facts.fact("workloads", format!("{} ({} attached here)", status.workloads, status.attached));
    facts.fact("services", format!("{} own, {} imported", status.services, status.imports));
    facts.fact("links", list(&status.links.iter().map(link).collect::<Vec<_>>()));
    facts.fact("packets", packets(&status.packets));
    facts.fact("dropped", dropped(&status.packets));
    facts.fact("certificate", format!("until {}", relative(status.svid_expires_at, now)));
    facts.to_string()
}

fn ready(status: &Status) -> String {
    match &status.not_ready[..] {
        [] => yes_no(status.ready).to_owned(),
        why => format!("NO: {}", why.join("; ")),
    }
}

fn registry(registry: &Registry) -> String {
    let leader = match &registry.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".to_owned(),
    };
    let changes = if registry.writable { "takes changes" } else { "REFUSES CHANGES" };
    format!("{}, {leader}, {changes}, term {}, revision {}", registry.role, registry.term, registry.revision)
}

fn link(link: &LinkState) -> String {
    match link.stale_for {
        Some(_) => format!("{} {} for {}", link.cluster, link.state, seconds(link.stale_for)),
        None => format!("{} {}", link.cluster, link.state),
    }
}

fn packets(packets: &Packets) -> String {
    format!("{} received, {} forwarded", packets.received, packets.forwarded)
}

fn dropped(packets: &Packets) -> String {
    let counts: Vec<_> = packets.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    list(&counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_status_is_told_at_a_glance() {
        let registry = Registry {
            role: "leader".into(),
            leader: None,
            writable: false,
            term: 3,
            revision: 42,
            voters: vec!["01".into()],
            learners: vec![],
        };
        let dropped = [("bad-mac".to_owned(), 2), ("not-admitted".to_owned(), 9)].into();
        let status = Status {
            cluster: "iad".into(),
            cluster_id: 7,
            trust_domain: "iad.mesh".into(),
            node: "01".into(),
            role: "gateway".into(),
            release: "0.1.0".into(),
            region: "us-ashburn-1".into(),
            zone: "AD-1".into(),
            ready: true,
            not_ready: Vec::new(),
            listen: vec!["[::]:7443".into()],
            registry,
            attached: 2,
            workloads: 3,
            services: 4,
            imports: 5,
            links: vec![LinkState { cluster: "phx".into(), state: "stale".into(), stale_for: Some(9) }],
            packets: Packets { received: 10, forwarded: 8, dropped },
            svid_expires_at: 1_700_003_600,
        };
        let expected = "\
cluster      iad (id 7, iad.mesh)
gateway      01 (gateway, release 0.1.0)
runs in      us-ashburn-1 AD-1
ready        yes
listens on   [::]:7443
registry     leader, no leader, REFUSES CHANGES, term 3, revision 42
voters       01
learners     -
workloads    3 (2 attached here)
services     4 own, 5 imported
links        phx stale for 9s
packets      10 received, 8 forwarded
dropped      bad-mac 2,not-admitted 9
certificate  until 2023-11-14T23:13:20Z (in 1h)";
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(table(&status, now), expected);
        let full = Status { ready: false, not_ready: vec!["disk: cannot write into /data".into()], ..status };
        assert!(table(&full, now).contains("\nready        NO: disk: cannot write into /data\n"));
    }
}
