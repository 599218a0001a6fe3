//! The nftables rules of `redirect`. They live in a table of their own, which is made anew as a whole: nothing else of the host
//! is touched, and installing them twice is as good as once.

use crate::config::{CaptureConfig, Inbound, Networks, Redirect};
use causeway_model::Vip;
use ipnet::IpNet;
use std::fmt::{Display, Write as _};

/// The family and name of the table.
pub const TABLE: &str = "inet causeway";

/// Begins a connection. Rules that did not see the beginning of one leave it alone, so that installing them breaks nothing.
const FIRST: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// One rule, and why it is there: its comment, by which it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: String,
    why: String,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    name: &'static str,
    /// Where in the packets' way. Priorities are numbers, because not every release of nft knows every name at every hook.
    hook: &'static str,
    rules: Vec<Rule>,
}

impl Chain {
    fn new(name: &'static str, hook: &'static str) -> Self {
        Self { name, hook, rules: Vec::new() }
    }

    fn rule(&mut self, why: impl Into<String>, text: impl Into<String>) {
        self.rules.push(Rule { text: text.into(), why: why.into() });
    }
}

/// All rules of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    chains: Vec<Chain>,
}

/// The script that removes the table, whether it is there or not.
pub(super) fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

impl Rules {
    pub(super) fn new(config: &CaptureConfig, redirect: &Redirect) -> Self {
        let mut chains = vec![outbound(config, redirect), datagrams(config, redirect)];
        if redirect.inbound == Inbound::Refuse {
            chains.push(inbound(redirect));
        }
        let mut rules = Self { chains };
        let settings = format!("settings {:016x}", fnv1a(rules.script().as_bytes()));
        if let Some(first) = rules.chains.first_mut().and_then(|chain| chain.rules.first_mut()) {
            first.why = format!("{}; {settings}", first.why);
        }
        rules
    }

    /// For `nft -f -`.
    pub(super) fn script(&self) -> String {
        let mut script = removal();
        let _ = writeln!(script, "table {TABLE} {{");
        for Chain { name, hook, rules } in &self.chains {
            let _ = writeln!(script, "\tchain {name} {{\n\t\ttype {hook}; policy accept;");
            for Rule { text, why } in rules {
                let _ = writeln!(script, "\t\t{text} comment \"{why}\"");
            }
            script.push_str("\t}\n");
        }
        script.push_str("}\n");
        script
    }

    /// The comments of the rules.
    pub(super) fn marks(&self) -> Vec<String> {
        self.chains.iter().flat_map(|chain| &chain.rules).map(|rule| rule.why.clone()).collect()
    }
}

/// TCP and DNS of the application. A chain of this type sees the first packet of each connection.
fn outbound(config: &CaptureConfig, redirect: &Redirect) -> Chain {
    let mut chain = Chain::new("outbound", "nat hook output priority -100");
    let old = FIRST.replace("==", "!=");
    chain.rule("connections from before", format!("meta l4proto tcp {old} return"));
    for (family, captured) in [("ipv4", config.ipv4), ("ipv6", config.ipv6)] {
        if !captured {
            chain.rule(format!("no {family}"), format!("meta nfproto {family} return"));
        }
    }
    if !redirect.uids.is_empty() {
        chain.rule("the sidecar itself", format!("meta skuid {} return", set(&redirect.uids)));
    }
    if !redirect.gids.is_empty() {
        chain.rule("the sidecar itself, by group", format!("meta skgid {} return", set(&redirect.gids)));
    }
    // virtual addresses lead nowhere else, so nothing below excludes them
    for network in vip_networks(config) {
        let to = destination(&network);
        chain.rule(
            format!("TCP to {network}"),
            format!("{to} meta l4proto tcp redirect to :{}", redirect.outbound_port),
        );
        chain.rule(format!("the rest to {network}"), format!("{to} return"));
    }
    exclusions(&mut chain, redirect);
    questions(&mut chain, redirect);
    // this host's own addresses as well as 127.0.0.0/8 and ::1
    chain.rule("this host", "oif \"lo\" return");
    if !redirect.include_ports.is_empty() {
        chain.rule("ports not included", format!("tcp dport != {{ {} }} return", redirect.include_ports));
    }
    inclusions(&mut chain, &redirect.include);
    chain.rule("TCP", format!("meta l4proto tcp redirect to :{}", redirect.outbound_port));
    chain
}

fn exclusions(chain: &mut Chain, redirect: &Redirect) {
    if !redirect.exclude_uids.is_empty() {
        chain.rule("users excluded", format!("meta skuid {} return", set(&redirect.exclude_uids)));
    }
    let Networks { v4, v6 } = &redirect.exclude;
    for (family, keyword, networks) in [("ipv4", "ip", selection(v4)), ("ipv6", "ip6", selection(v6))] {
        match networks {
            Selection::None => {}
            Selection::All => {
                chain.rule(format!("{family} excluded"), format!("meta nfproto {family} return"))
            }
            Selection::These(set) => {
                chain.rule(format!("{family} networks excluded"), format!("{keyword} daddr {set} return"));
            }
        }
    }
    if !redirect.exclude_ports.is_empty() {
        chain.rule("ports excluded", format!("tcp dport {{ {} }} return", redirect.exclude_ports));
    }
}

/// DNS, also to a stub resolver on loopback. Its questions to others must come from itself, or they would go in circles.
fn questions(chain: &mut Chain, redirect: &Redirect) {
    if redirect.exclude_ports.contains(53) {
        return;
    }
    for protocol in ["udp", "tcp"] {
        if !redirect.resolver_uids.is_empty() {
            chain.rule(
                format!("this host's resolver over {protocol}"),
                format!("{protocol} dport 53 meta skuid {} return", set(&redirect.resolver_uids)),
            );
        }
        chain.rule(
            format!("DNS over {protocol}"),
            format!("{protocol} dport 53 redirect to :{}", redirect.dns_port),
        );
    }
}

fn inclusions(chain: &mut Chain, include: &Networks) {
    if include.is_empty() {
        return;
    }
    for (family, keyword, networks) in
        [("ipv4", "ip", selection(&include.v4)), ("ipv6", "ip6", selection(&include.v6))]
    {
        match networks {
            Selection::All => {}
            Selection::None => {
                chain.rule(format!("{family} not included"), format!("meta nfproto {family} return"));
            }
            Selection::These(set) => {
                chain.rule(
                    format!("{family} networks not included"),
                    format!("{keyword} daddr != {set} return"),
                );
            }
        }
    }
}

/// UDP to virtual addresses, which a local route brings to loopback. TPROXY keeps source and destination as they are.
fn datagrams(config: &CaptureConfig, redirect: &Redirect) -> Chain {
    let mut chain = Chain::new("datagrams", "filter hook prerouting priority -150");
    for network in vip_networks(config) {
        let (to, port) = (destination(&network), redirect.outbound_port);
        let socket = match network {
            IpNet::V4(_) => format!("ip to 127.0.0.1:{port}"),
            IpNet::V6(_) => format!("ip6 to [::1]:{port}"),
        };
        chain.rule(
            format!("UDP to {network}"),
            format!("iif \"lo\" {to} meta l4proto udp tproxy {socket} accept"),
        );
    }
    chain
}

/// Plain traffic to served ports from other hosts is refused. What the sidecar delivers comes over loopback.
fn inbound(redirect: &Redirect) -> Chain {
    let mut chain = Chain::new("inbound", "filter hook input priority 0");
    chain.rule("from this host", "iif \"lo\" accept");
    if !redirect.served_tcp.is_empty() {
        chain.rule(
            "plain TCP to served ports",
            format!("tcp dport {{ {} }} {FIRST} reject with tcp reset", redirect.served_tcp),
        );
    }
    if !redirect.served_udp.is_empty() {
        // answers to what the workload asks from such a port belong to a flow of its own
        chain.rule(
            "plain UDP to served ports",
            format!("udp dport {{ {} }} ct state new reject", redirect.served_udp),
        );
    }
    chain
}

/// The networks of virtual addresses that are captured.
fn vip_networks(config: &CaptureConfig) -> Vec<IpNet> {
    let of = |(ip, length): (std::net::IpAddr, u8)| IpNet::new(ip, length).ok();
    let v4 = config.ipv4.then(|| of((Vip::V4_NET.0.into(), Vip::V4_NET.1))).flatten();
    let v6 = config.ipv6.then(|| of((Vip::V6_NET.0.into(), Vip::V6_NET.1))).flatten();
    v4.into_iter().chain(v6).collect()
}

fn destination(network: &IpNet) -> String {
    match network {
        IpNet::V4(network) => format!("ip daddr {network}"),
        IpNet::V6(network) => format!("ip6 daddr {network}"),
    }
}

/// The destinations of one family in a list.
enum Selection {
    None,
    /// A prefix of no bits, which not every release of nft takes as a member of a set.
    All,
    These(String),
}

fn selection<N: Into<IpNet> + Copy + Display>(networks: &[N]) -> Selection {
    if networks.is_empty() {
        return Selection::None;
    }
    if networks.iter().any(|&network| network.into().prefix_len() == 0) {
        return Selection::All;
    }
    Selection::These(set(networks))
}

fn set<T: Display>(members: &[T]) -> String {
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", members.join(", "))
}

/// FNV-1a, 64 bits: the same in every release, which the standard library's hash is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
