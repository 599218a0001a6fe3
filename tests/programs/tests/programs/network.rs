//! The hosts of a test and the cables between them:
//!
//! ```text
//! client --- iad --- phx --- server
//!    \                         /
//!     `-------- world --------'
//! ```
//!
//! `iad` and `phx` have a gateway each and forward no IP packets, so client and server meet through the mesh alone. `world` is
//! everything outside it: a web server, and the resolver that hosts have by default.

use crate::accounts::has;
use causeway_test_mesh::{Hosts, Service, skip};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::thread;

/// The gateway of `iad`, and that of `phx`.
pub(crate) const IAD: Ipv4Addr = Ipv4Addr::new(10, 232, 0, 1);
pub(crate) const PHX: Ipv4Addr = Ipv4Addr::new(10, 232, 0, 2);
/// The client and the server as gateways see them.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 232, 1, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 232, 2, 1);
/// The world as the client sees it.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(10, 232, 3, 2);
pub(crate) const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0xfd82, 3, 0, 0, 0, 0, 0, 2);
/// The server as the world sees it.
pub(crate) const SERVER_OUTSIDE: [&str; 2] = ["10.232.4.1", "[fd82:4::1]"];
/// A host name of the world.
pub(crate) const PLAIN: &str = "plain.example";

const HOSTS: [&str; 5] = ["iad", "phx", "client", "server", "world"];
/// Near end, its cable and address, far end, its cable and address.
const CABLES: [[&str; 6]; 5] = [
    ["iad", "far", "10.232.0.1/30", "phx", "far", "10.232.0.2/30"],
    ["client", "mesh", "10.232.1.1/30", "iad", "near", "10.232.1.2/30"],
    ["server", "mesh", "10.232.2.1/30", "phx", "near", "10.232.2.2/30"],
    ["client", "out", "10.232.3.1/30", "world", "client", "10.232.3.2/30"],
    ["server", "out", "10.232.4.1/30", "world", "server", "10.232.4.2/30"],
];
/// What else there is to say to each.
const REST: &str = "\
client route add 10.232.0.1/32 via 10.232.1.2
server route add 10.232.0.2/32 via 10.232.2.2
client addr add fd82:3::1/64 dev out nodad
world addr add fd82:3::2/64 dev client nodad
server addr add fd82:4::1/64 dev out nodad
world addr add fd82:4::2/64 dev server nodad
client route add default via 10.232.3.2
client -6 route add default via fd82:3::2
server route add default via 10.232.4.2
server -6 route add default via fd82:4::2";

/// The hosts; /etc/netns has what `ip netns exec` puts over their /etc.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) hosts: Hosts,
    folders: Vec<PathBuf>,
    _web: [Service; 2],
}

impl Network {
    /// All hosts with cables, names and the servers of the world; or why there can be none.
    pub(crate) fn new() -> Result<Self, String> {
        let hosts = Hosts::new(&HOSTS)?;
        for [near, cable, address, far, far_cable, far_address] in CABLES {
            hosts.ip(near, &format!("link add {cable} type veth peer name {far_cable} netns @{far}"))?;
            for (host, cable, address) in [(near, cable, address), (far, far_cable, far_address)] {
                hosts.ip(host, &format!("addr add {address} dev {cable}"))?;
                // no address that comes later by itself
                hosts.ip(host, &format!("link set {cable} addrgenmode none"))?;
                hosts.ip(host, &format!("link set {cable} up"))?;
            }
        }
        for line in REST.lines() {
            let (host, args) = line.split_once(' ').expect("a host and what to say to it");
            let (family, args) = args.strip_prefix("-6 ").map_or(("", args), |args| ("-6 ", args));
            hosts.ip(host, &format!("{family}{args}"))?;
        }
        let mut folders = Vec::new();
        for host in ["client", "server"] {
            let folder = PathBuf::from("/etc/netns").join(hosts.name(host));
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            folders.push(folder);
        }
        let resolver = format!("nameserver {WORLD}\noptions timeout:5 attempts:1\n");
        for folder in &folders {
            fs::write(folder.join("resolv.conf"), &resolver).map_err(|error| error.to_string())?;
        }
        hosts.enter("world");
        // these take IPv4, too
        let web = [80, 8080].map(|port| Service::http_at((Ipv6Addr::UNSPECIFIED, port).into(), "world"));
        resolve();
        Ok(Self { hosts, folders, _web: web })
    }

    /// The file that names the resolvers of host `name`.
    pub(crate) fn resolv_conf(&self, host: &str) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.hosts.name(host)).join("resolv.conf")
    }
}

/// The hosts for test `name`, which needs `programs` besides `ip`; `None`, and a line that says so, if there can be none.
pub(crate) fn or_skip(name: &str, programs: &[&str]) -> Option<Network> {
    let part = format!("programs::{name}");
    let usual = ["ip", "setpriv", "getent", "timeout"];
    if !usual.iter().chain(programs).all(|program| has(program, &part)) {
        return None;
    }
    Network::new().map_err(|why| skip(&part, &why)).ok()
}

impl Drop for Network {
    fn drop(&mut self) {
        for folder in &self.folders {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Answers questions for [`PLAIN`], and says of every other name that there is none (RFC 1035). It lives as long as the test process.
fn resolve() {
    let socket = UdpSocket::bind("0.0.0.0:53").expect("a host of its own");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + question.get(12..)?.iter().position(|&byte| byte == 0)? + 1;
    let (name, kind) = (&question[12..end], question.get(end..end + 2)?);
    let plain: Vec<u8> = PLAIN
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
        .collect();
    let address = match kind {
        [0, 1] => WORLD.octets().to_vec(),
        [0, 28] => WORLD_V6.octets().to_vec(),
        _ => Vec::new(),
    };
    let known = name.to_ascii_lowercase().starts_with(&plain);
    let count = u8::from(known && !address.is_empty());
    // response, recursion desired and available; no error, or no such name
    let head = [0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, count, 0, 0, 0, 0];
    let mut answer = [&question[..2], &head, &question[12..end + 4]].concat();
    if count == 1 {
        answer.extend([0xc0, 12, kind[0], kind[1], 0, 1, 0, 0, 0, 60, 0, u8::try_from(address.len()).ok()?]);
        answer.extend(address);
    }
    Some(answer)
}
