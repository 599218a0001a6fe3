//! What the demo tells people: what runs, and what to try.

use super::mesh::Mesh;
use super::plan::{Cluster, GatewayPlan};
use crate::output::Table;
use std::path::Path;

/// The processes with their addresses and roles.
pub(super) fn processes(mesh: &Mesh) -> String {
    let pid = |pid: Option<u32>| pid.map(|pid| pid.to_string()).unwrap_or_default();
    let mut table = Table::new(["PROCESS", "PID", "ADDRESS", "ROLE"]);
    for (plan, child) in &mesh.gateways {
        let role = if plan.votes() { "votes" } else { "joined with a token, a learner of the registry" };
        let role = format!("gateway of {} ({}), {role}", plan.cluster, plan.cluster.region());
        table.row([plan.name(), pid(child.pid()), plan.overlay().to_string(), role]);
    }
    for (plan, child) in &mesh.sidecars {
        let role = format!("sidecar in {}, serves {}", plan.cluster, plan.cluster.service());
        let listen = plan.listen();
        let role = match listen {
            Some(_) => format!("{role}; its address leads to {}", plan.cluster.other().service()),
            None => role,
        };
        table.row([
            plan.name(),
            pid(child.pid()),
            listen.map(|addr| addr.to_string()).unwrap_or_default(),
            role,
        ]);
    }
    table.to_string()
}

/// Five commands to try.
pub(super) fn commands(mesh: &Mesh) -> String {
    // the gateway that does not vote: changes are taken even without it
    let last = mesh.gateways.iter().rfind(|(plan, _)| plan.cluster == Cluster::Iad);
    let victim = last.filter(|(plan, _)| !plan.votes()).and_then(|(plan, child)| Some((*plan, child.pid()?)));
    let dir = mesh.place.exe.parent().unwrap_or(Path::new("."));
    lines(&dir.display().to_string(), &mesh.place.contexts().display().to_string(), victim)
}

fn lines(exe_dir: &str, contexts: &str, victim: Option<(GatewayPlan, u32)>) -> String {
    let curl = format!("curl http://{}/", Cluster::Iad.entrance());
    let (fourth, why) = match victim {
        Some((plan, pid)) => {
            (format!("kill -9 {pid}; {curl}"), format!("{} dies; the call does not notice", plan.name()))
        }
        None => ("causeway check --context iad".to_owned(), "is everything fine?".to_owned()),
    };
    let tries = [
        (curl, "iad calls payments.shop, which runs in phx".to_owned()),
        ("causeway services --context iad".to_owned(), "what iad can call, and where it runs".to_owned()),
        ("causeway link list --context iad".to_owned(), "the link to phx".to_owned()),
        (fourth, why),
        ("causeway status --context iad".to_owned(), "the gateway and its cluster at a glance".to_owned()),
    ];
    let mut table = Table::headless();
    for (command, why) in tries {
        table.row([format!("  {command}"), format!("# {why}")]);
    }
    format!(
        "Try, in another terminal:\n  export PATH=\"{exe_dir}:$PATH\" CAUSEWAY_CONTEXT_DIR={contexts}\n{table}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_across_comes_first_and_five_are_told() {
        let victim = GatewayPlan { cluster: Cluster::Iad, number: 2 };
        let text = lines("/bin", "/d/contexts", Some((victim, 42)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2 + 5, "{text}");
        assert_eq!(lines[1], "  export PATH=\"/bin:$PATH\" CAUSEWAY_CONTEXT_DIR=/d/contexts");
        assert!(lines[2].starts_with("  curl http://127.0.11.10:8080/ "), "{text}");
        assert!(
            lines[5].contains("kill -9 42; curl http://127.0.11.10:8080/") && lines[5].contains("iad-2 dies"),
            "{text}"
        );
    }

    #[test]
    fn the_only_gateway_of_a_cluster_is_not_killed() {
        assert!(!lines("/bin", "/d", None).contains("kill"));
    }
}
