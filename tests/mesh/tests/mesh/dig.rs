//! A sidecar's DNS server as `dig` sees it, an independent reader of what it writes (package bind9-dnsutils).

use crate::upstream::{self, Upstream};
use causeway_test_mesh::{Cluster, Mesh, SOON, Service, Sidecar, loopback, skip, wait_until};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// The port of DNS at the sidecar, at which no privilege is needed.
const PORT: u16 = 5300;
/// How many ports a service has whose list is too long for a datagram.
const MANY: u16 = 60;

/// An answer, as `dig` prints it.
#[derive(Debug)]
struct Answer {
    text: String,
}

impl Answer {
    fn line(&self, start: &str) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default()
    }

    /// NOERROR and the like; empty if there was no answer.
    fn status(&self) -> &str {
        self.line(";; ->>HEADER<<- opcode: ")
            .split(", ")
            .nth(1)
            .unwrap_or_default()
            .trim_start_matches("status: ")
    }

    /// The flags of the header, such as `qr aa rd ra`.
    fn flags(&self) -> &str {
        self.line(";; flags: ").split(';').next().unwrap_or_default()
    }

    /// What EDNS says, such as `version: 0, flags:; udp: 1232`.
    fn edns(&self) -> &str {
        self.line("; EDNS: ")
    }

    /// Whether the answer came over TCP.
    fn over_tcp(&self) -> bool {
        self.line(";; SERVER: ").ends_with("(TCP)")
    }

    /// The records of a section, each as its words.
    fn section(&self, name: &str) -> Vec<Vec<&str>> {
        let head = format!(";; {name} SECTION:");
        let lines = self.text.lines().skip_while(|line| *line != head).skip(1);
        lines.take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect()
    }

    /// The data of the answer's records, their times to live and classes left out.
    fn data(&self) -> Vec<String> {
        let records = self.section("ANSWER");
        records.iter().map(|words| words[3..].join(" ")).collect()
    }

    /// The least time to live of the answer.
    fn ttl(&self) -> u32 {
        let records = self.section("ANSWER");
        records.iter().map(|words| words[1].parse().unwrap()).min().unwrap_or_else(|| panic!("{}", self.text))
    }

    /// Panics unless it says that there is nothing, as `zone` and for a short time.
    #[track_caller]
    fn assert_negative(&self, status: &str, zone: &str) {
        assert_eq!(self.status(), status, "{}", self.text);
        assert!(self.flags().contains("aa") && self.section("ANSWER").is_empty(), "{}", self.text);
        let authority = self.section("AUTHORITY");
        assert_eq!(authority.len(), 1, "{}", self.text);
        // the time to live and the last number are for how long it may be kept (RFC 2308)
        let soa = &authority[0];
        assert_eq!((soa[0], soa[1], soa[3], soa[10]), (zone, "5", "SOA", "5"), "{}", self.text);
    }

    #[track_caller]
    fn assert_data(&self, data: &[&str]) {
        assert_eq!(
            (self.status(), self.data()),
            ("NOERROR", data.iter().map(ToString::to_string).collect()),
            "{}",
            self.text
        );
    }
}

/// A sidecar whose DNS is asked, with what it needs.
struct World {
    server: SocketAddr,
    upstream: Upstream,
    sidecar: Sidecar,
    _served: (Cluster, Sidecar, Service),
}

impl World {
    /// None, and the skip said, where there is no `dig`.
    fn start(name: &str) -> Option<Self> {
        if Command::new("dig").arg("-v").output().is_err() {
            skip(name, "the program dig is missing (package bind9-dnsutils)");
            return None;
        }
        let mesh = Mesh::new("dig");
        let iad = mesh.cluster("iad").start();
        let (service, upstream) = (Service::echo(), Upstream::start());
        let mut served = mesh.sidecar(&iad, "pay");
        for port in ["80/http", "443", "53/udp"] {
            served = served.serve(&format!("pay.shop:{port}"), service.addr());
        }
        for port in 1..=MANY {
            served = served.serve(&format!("many.shop:{port}"), service.addr());
        }
        let served = (served.start(), service);
        let server = SocketAddr::from((loopback(), PORT));
        let sidecar = mesh
            .sidecar(&iad, "web")
            .flag("--capture", "vip")
            .flag("--dns-listen", &server.to_string())
            .flag("--dns-upstream", &upstream.addr().to_string())
            .start();
        let world = Self { server, upstream, sidecar, _served: (iad, served.0, served.1) };
        for name in ["pay.shop.mesh", "many.shop.mesh"] {
            wait_until(SOON, "the services have names", || world.dig(name).status() == "NOERROR");
        }
        Some(world)
    }

    /// Runs `dig` with these words.
    #[track_caller]
    fn dig(&self, words: &str) -> Answer {
        let (ip, port) = (self.server.ip(), self.server.port());
        let mut command = Command::new("dig");
        command.args(["-r", &format!("@{ip}"), "-p", &port.to_string(), "+time=10", "+tries=1"]);
        let output = command.args(words.split_whitespace()).output().unwrap();
        Answer { text: String::from_utf8(output.stdout).unwrap() }
    }

    /// Asks with a message of its own, which `dig` would not send, and returns the code of the answer.
    #[track_caller]
    fn code_of(&self, packet: &[u8]) -> u8 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(packet, self.server).unwrap();
        let mut answer = [0; 512];
        let (len, _) = socket.recv_from(&mut answer).unwrap();
        assert!(len >= 12 && answer[..2] == packet[..2] && answer[2] & 0x80 != 0, "{:?}", &answer[..len]);
        answer[3] & 15
    }
}

/// The first record's last word, an address.
#[track_caller]
fn address(answer: &Answer) -> IpAddr {
    let data = answer.data();
    let last = data.first().and_then(|data| data.rsplit(' ').next());
    last.and_then(|last| last.parse().ok()).unwrap_or_else(|| panic!("{}", answer.text))
}

#[test]
fn dig_reads_the_names_of_services() {
    let Some(world) = World::start("the names of services as dig reads them") else { return };
    let v4 = address(&world.dig("pay.shop.mesh A"));
    let v6 = address(&world.dig("pay.shop.mesh AAAA"));
    assert!(v4.is_ipv4() && v4.to_string().starts_with("240."), "{v4}");
    assert!(v6.to_string().starts_with("fd9c:43a6:77c1:"), "{v6}");
    for name in ["pay.shop.mesh", "pay.shop.svc.clusterset.local"] {
        for transport in ["+notcp", "+tcp"] {
            let answer = world.dig(&format!("{name} A {transport}"));
            answer.assert_data(&[&format!("A {v4}")]);
            assert_eq!((answer.ttl(), answer.over_tcp()), (30, transport == "+tcp"), "{}", answer.text);
            assert_eq!(answer.flags(), "qr aa rd ra");
        }
    }
    let pinned = world.dig("pay.shop.at.iad.mesh");
    assert!(address(&pinned) != v4, "a pinned name has an address of its own\n{}", pinned.text);
    world.dig("pay.shop.at.phx.mesh").assert_negative("NXDOMAIN", "mesh.");

    // the case of the question is the answer's (draft-vixie-dnsext-dns0x20)
    let mixed = world.dig("pAy.ShOp.MESH +qr");
    assert_eq!((mixed.section("ANSWER")[0][0], address(&mixed)), ("pAy.ShOp.MESH.", v4));
    // ANY is answered by one set (RFC 8482), and a wildcard is a name like others
    world.dig("pay.shop.mesh ANY +notcp").assert_data(&[&format!("A {v4}")]);
    world.dig("*.shop.mesh").assert_negative("NXDOMAIN", "mesh.");

    // the search list of resolv.conf(5): `pay.shop` is asked for with each suffix
    let searched = world.dig("+domain=mesh +ndots=5 pay.shop");
    assert_eq!((searched.section("ANSWER")[0][0], address(&searched)), ("pay.shop.mesh.", v4));
    let searched = world.dig("+domain=shop.mesh pay");
    assert_eq!((searched.section("ANSWER")[0][0], address(&searched)), ("pay.shop.mesh.", v4));

    // reverse questions
    for (ip, zone) in [(v4, "240.in-addr.arpa."), (v6, "1.c.7.7.6.a.3.4.c.9.d.f.ip6.arpa.")] {
        world.dig(&format!("-x {ip}")).assert_data(&["PTR pay.shop.mesh."]);
        world.dig(&format!("{zone} PTR")).assert_negative("NOERROR", zone);
    }
    world.dig("-x 240.255.255.250").assert_negative("NXDOMAIN", "240.in-addr.arpa.");
    world.dig("1.240.in-addr.arpa PTR").assert_negative("NOERROR", "240.in-addr.arpa.");
}

#[test]
fn dig_reads_ports_and_negative_answers() {
    let Some(world) = World::start("ports and negative answers as dig reads them") else { return };
    let all = world.dig("pay.shop.mesh SRV");
    let mut ports = all.data();
    ports.sort();
    assert_eq!(
        ports,
        ["SRV 0 0 443 pay.shop.mesh.", "SRV 0 0 53 pay.shop.mesh.", "SRV 0 0 80 pay.shop.mesh."]
    );
    let extra = all.section("ADDITIONAL");
    assert_eq!(extra.iter().map(|words| words[3]).collect::<Vec<_>>(), ["A", "AAAA"], "{}", all.text);
    world.dig("_http._tcp.pay.shop.mesh SRV").assert_data(&["SRV 0 0 80 pay.shop.mesh."]);
    world.dig("_53._udp.pay.shop.mesh SRV").assert_data(&["SRV 0 0 53 pay.shop.mesh."]);
    world.dig("_http._udp.pay.shop.mesh SRV").assert_negative("NXDOMAIN", "mesh.");
    // above names with records is a name without any (RFC 8020)
    for name in ["_tcp.pay.shop.mesh SRV", "_tcp.pay.shop.mesh A", "_http._tcp.pay.shop.mesh A"] {
        world.dig(name).assert_negative("NOERROR", "mesh.");
    }
    for kind in ["MX", "TXT", "HTTPS", "DS", "TYPE65280", "NS", "SOA"] {
        world.dig(&format!("pay.shop.mesh {kind}")).assert_negative("NOERROR", "mesh.");
    }
    for name in ["nobody.shop.mesh", "www.mesh", "a.b.c.mesh", "pay.shop.mesh.mesh", "a.pay.shop.mesh"] {
        world.dig(name).assert_negative("NXDOMAIN", "mesh.");
    }
    let zone = world.dig("mesh SOA");
    assert!(zone.data()[0].starts_with("SOA ns.mesh. hostmaster.mesh. "), "{}", zone.text);
    world.dig("mesh A").assert_negative("NOERROR", "mesh.");
    world.dig("dns-version.clusterset.local TXT").assert_data(&["TXT \"1.0.0\""]);

    // what does not fit says so, and dig asks again over TCP
    for (words, limit) in
        [("+noedns", 512), ("+bufsize=100", 512), ("+bufsize=900", 900), ("+bufsize=4096", 1232)]
    {
        let cut = world.dig(&format!("many.shop.mesh SRV +ignore {words}"));
        assert!(cut.flags().contains("tc") && !cut.over_tcp(), "{}", cut.text);
        let size: usize = cut.line(";; MSG SIZE  rcvd: ").parse().unwrap();
        assert!(size <= limit && size > limit / 2, "{words}: {size}");
        let whole = world.dig(&format!("many.shop.mesh SRV {words}"));
        assert!(whole.over_tcp() && !whole.flags().contains("tc"), "{}", whole.text);
        assert_eq!(whole.data().len(), usize::from(MANY), "{}", whole.text);
    }
}

#[test]
fn dig_is_answered_as_the_rules_of_edns_and_of_messages_have_it() {
    let Some(world) = World::start("EDNS and odd messages as dig has them") else { return };
    let plain = world.dig("pay.shop.mesh +noedns");
    assert_eq!((plain.status(), plain.edns()), ("NOERROR", ""), "{}", plain.text);
    for words in [
        "",
        "+bufsize=4096",
        "+ednsopt=65001:abcd",
        "+cookie=0123456789abcdef",
        "+subnet=192.0.2.0/24",
        "+ednsflags=0x4000",
        "+nsid",
    ] {
        let answer = world.dig(&format!("pay.shop.mesh {words}"));
        assert_eq!((answer.status(), answer.edns()), ("NOERROR", "version: 0, flags:; udp: 1232"), "{words}");
        // nothing of what is not understood comes back
        assert!(
            !["OPT=65001", "CLIENT-SUBNET", "NSID"].iter().any(|option| answer.text.contains(option)),
            "{}",
            answer.text
        );
    }
    let secure = world.dig("pay.shop.mesh +dnssec");
    assert_eq!(secure.edns(), "version: 0, flags: do; udp: 1232");
    assert!(!secure.flags().contains("ad"), "{}", secure.text);
    let newer = world.dig("pay.shop.mesh +edns=1 +noednsnegotiation");
    assert_eq!(
        (newer.status(), newer.edns()),
        ("BADVERS", "version: 0, flags:; udp: 1232"),
        "{}",
        newer.text
    );
    // and dig, told so, asks with the version that there is
    assert_eq!(world.dig("pay.shop.mesh +edns=1").status(), "NOERROR");

    for (words, status) in [
        ("version.bind CH TXT", "REFUSED"),
        ("pay.shop.mesh CLASS255 A", "REFUSED"),
        ("+header-only", "FORMERR"),
        ("pay.shop.mesh +opcode=notify", "NOTIMP"),
        ("pay.shop.mesh +opcode=update", "NOTIMP"),
        ("pay.shop.mesh +opcode=status", "NOTIMP"),
        ("pay.shop.mesh +opcode=9", "NOTIMP"),
        ("pay.shop.mesh +norecurse +zflag +cdflag", "NOERROR"),
    ] {
        let answer = world.dig(words);
        assert_eq!(answer.status(), status, "{words}: {}", answer.text);
    }
    assert!(world.dig("mesh AXFR").text.contains("Transfer failed"));
    let question = b"\x03pay\x04shop\x04mesh\0\0\x01\0\x01";
    let two = [b"\x12\x34\x01\0\0\x02\0\0\0\0\0\0", &question[..], question].concat();
    assert_eq!(world.code_of(&two), 1, "two questions are FORMERR (RFC 9619)");
    // dig takes no refusal over UDP for an answer to IXFR
    let transfer = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04mesh\0\0\xfb\0\x01";
    assert_eq!(world.code_of(transfer), 5);
    let cut = [b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0", &question[..9]].concat();
    assert_eq!(world.code_of(&cut), 1);
    // several questions over one connection are dig's as well
    let both = world.dig("+tcp +keepopen pay.shop.mesh A many.shop.mesh A");
    assert_eq!(both.text.matches("status: NOERROR").count(), 2, "{}", both.text);
}

#[test]
fn dig_gets_other_names_from_the_upstream_and_from_memory() {
    let Some(world) = World::start("forwarded names as dig reads them") else { return };
    // takes as long as an application waits; the rest goes on meanwhile
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| {
            let began = Instant::now();
            (world.dig("silent.example"), began.elapsed())
        });
        let first = world.dig("a.example");
        first.assert_data(&["A 192.0.2.1"]);
        assert_eq!(first.flags(), "qr rd ra", "not ours");
        assert!(first.ttl() <= 60, "{}", first.text);
        let asked = world.upstream.asked("a.example.");
        wait_until(SOON, "the time to live counts down", || world.dig("A.exAMPle").ttl() <= 58);
        assert_eq!(world.upstream.asked("a.example."), asked, "answered from memory");
        let again = world.dig("A.exAMPle");
        assert_eq!(again.section("ANSWER")[0][0], "A.exAMPle.", "with the case of this question");

        for _ in 0..2 {
            let none = world.dig("none.example");
            assert_eq!((none.status(), none.flags()), ("NXDOMAIN", "qr rd ra"), "{}", none.text);
            assert_eq!(none.section("AUTHORITY")[0][3], "SOA");
        }
        assert_eq!(world.upstream.asked("none.example."), 1, "a negative answer is kept, too");

        // too long for a datagram: fetched over TCP, cut for the asker, whole over TCP
        let long = world.dig("long.example TXT");
        assert!(long.over_tcp(), "{}", long.text);
        assert_eq!(long.data().len(), upstream::LONG, "{}", long.text);
        let cut = world.dig("long.example TXT +ignore");
        assert!(cut.flags().contains("tc"), "{}", cut.text);
        // a failure of the upstream is passed on, and not kept
        assert_eq!(world.dig("broken.example").status(), "SERVFAIL");
        let broken = world.upstream.asked("broken.example.");
        world.dig("broken.example");
        assert!(world.upstream.asked("broken.example.") > broken);

        let (silent, took) = silent.join().unwrap();
        assert_eq!(silent.status(), "SERVFAIL", "{}", silent.text);
        assert!(silent.text.contains("EDE: 22 (No Reachable Authority)"), "{}", silent.text);
        assert!(took < Duration::from_secs(6), "{took:?}");
    });
    let scrape = world.sidecar.scrape();
    assert!(scrape.sum("causeway_dns_cache_hits_total", "") >= 2.0, "{}", scrape.text());
    assert!(scrape.sum("causeway_dns_upstream_failures_total", "reason=\"timeout\"") >= 1.0);
}
