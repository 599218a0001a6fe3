//! The README's "Two clusters by hand" and "Three gateways", command by command, as a newcomer types them.

use causeway_test_mesh::{Mesh, Process, SOON, loopback, skip, wait_until};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

const README: &str = include_str!("../../../../README.md");
const TWO_CLUSTERS: &str = "## Two clusters by hand";
const THREE_GATEWAYS: &str = "## Three gateways";
/// What the commands need beside causeway.
const PROGRAMS: [&str; 3] = ["sh", "curl", "python3"];
/// The addresses of the README, which may be in use here, those first that begin like another one.
const ADDRESSES: [&str; 10] = [
    "127.0.1.10",
    "127.0.2.10",
    "127.0.1.1",
    "127.0.1.2",
    "127.0.2.1",
    "127.0.2.2",
    "127.0.3.1",
    "127.0.3.2",
    "127.0.3.3",
    "127.0.0.1",
];
/// The longest gap between two acknowledged writes while a leader dies: the promise is 1 s, and the cores are shared.
const GAP: f64 = 3.0;

/// The commands of a chapter, continued lines joined.
fn commands(chapter: &str) -> Vec<String> {
    let chapter = README.split(chapter).nth(1).expect("the chapter is there");
    let chapter = chapter.split("\n## ").next().unwrap();
    let blocks = chapter.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<String>();
    joined.lines().map(|line| line.strip_prefix("$ ").expect("a prompt").to_owned()).collect()
}

/// The value of `flag` in a command line.
fn flag<'a>(line: &'a str, flag: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace().skip_while(|word| *word != flag);
    words.nth(1)
}

fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    // a shell that does not know the option is there too
    version.is_ok()
}

/// A newcomer's terminals.
struct Terminals {
    /// What runs on, in the order of the README: gateways, the server, sidecars.
    running: Vec<Process>,
    mesh: Mesh,
    /// What each command said that has ended.
    said: Vec<(String, String)>,
}

impl Terminals {
    /// Terminals, and the commands of a chapter with a folder and addresses that are free here.
    fn open(name: &str, chapter: &str) -> (Self, Vec<String>) {
        let mesh = Mesh::new(name);
        let folder = mesh.path("cw").display().to_string();
        let mine: Vec<Ipv4Addr> = ADDRESSES.iter().map(|_| loopback()).collect();
        let here = |line: String| {
            let line = line.replace("/tmp/cw", &folder);
            ADDRESSES.iter().zip(&mine).fold(line, |line, (old, new)| line.replace(old, &new.to_string()))
        };
        let commands = commands(chapter).into_iter().map(here).collect();
        (Self { running: Vec::new(), mesh, said: Vec::new() }, commands)
    }

    fn shell(&self, line: &str) -> Process {
        let name = format!("command-{}", self.running.len() + self.said.len());
        Process::shell(self.mesh.dir(), &name, line)
    }

    /// Types one command; what serves stays, and everything else must succeed the first time.
    fn type_in(&mut self, line: &str) {
        if let Some(cluster) = flag(line, "--cluster") {
            let context = flag(line, "--context").unwrap_or(cluster);
            let gateway = self.shell(&format!("exec {line}"));
            gateway.wait_log("the gateway is ready");
            self.running.push(gateway);
            self.mesh.ok(&["status", "--context", context]);
        } else if line.starts_with("causeway sidecar") {
            let sidecar = self.shell(&format!("exec {line}"));
            sidecar.wait_log("the sidecar is ready");
            self.running.push(sidecar);
        } else if line.starts_with("python3 -m http.server") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = format!("{}:{}", words[words.len() - 2], words[words.len() - 1]);
            self.running.push(self.shell(&format!("exec {line}")));
            wait_until(SOON, "the server listens", || TcpStream::connect(&address).is_ok());
        } else {
            let mut command = self.shell(line);
            let exit = command.wait_exit(SOON);
            assert_eq!(exit.code(), Some(0), "{line}:\n{}", command.tail());
            self.said.push((line.to_owned(), command.log()));
        }
    }

    /// What the command that begins with `start` said.
    fn said(&self, start: &str) -> &str {
        &self.said.iter().find(|(line, _)| line.starts_with(start)).expect(start).1
    }
}

#[test]
fn two_clusters_by_hand_work_as_they_are_written() {
    const NAME: &str = "readme::two_clusters_by_hand_work_as_they_are_written";
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return skip(NAME, &format!("there is no {missing}"));
    }
    let (mut terminals, commands) = Terminals::open("readme", TWO_CLUSTERS);
    assert!(commands.len() >= 11, "{commands:?}");
    for line in &commands {
        terminals.type_in(line);
    }

    let linked = terminals.said("causeway link accept");
    let state = linked.lines().find(|line| line.starts_with("state")).expect(linked);
    assert_eq!(
        state.split_whitespace().last(),
        Some("up"),
        "a newcomer is shown a link that does not work:\n{linked}"
    );
    assert!(terminals.said("curl").contains("Directory listing for /"), "{}", terminals.said("curl"));
    let services = terminals.said("causeway services");
    let row = services.lines().find(|line| line.contains("orders.shop")).expect(services);
    for part in ["phx", "us-phoenix-1", "AD-1", "1/1"] {
        assert!(row.contains(part), "{part} is not in {row}");
    }

    // "Kill either gateway of either cluster and curl again"
    let curl = commands.iter().find(|line| line.starts_with("curl")).unwrap();
    for (killed, gateway) in [(0, "of iad"), (3, "of phx")] {
        assert!(commands[killed].contains("causeway gateway"), "{gateway}");
        terminals.running[killed].kill();
        let before = terminals.said.len();
        terminals.type_in(curl);
        assert!(terminals.said[before].1.contains("Directory listing for /"));
    }
}

/// The writes that the loop says were acknowledged: when, and what.
fn acknowledged(log: &str) -> Vec<(f64, String)> {
    let line = |line: &str| {
        let (at, service) = line.split_once(' ')?;
        Some((at.parse().ok()?, service.to_owned())).filter(|_| service.ends_with(".loop"))
    };
    log.lines().filter_map(line).collect()
}

#[test]
fn three_gateways_survive_their_leader_as_it_is_written() {
    const NAME: &str = "readme::three_gateways_survive_their_leader_as_it_is_written";
    if let Some(missing) = ["sh", "date", "cat", "sleep"].iter().find(|program| !is_there(program)) {
        return skip(NAME, &format!("there is no {missing}"));
    }
    let (mut terminals, commands) = Terminals::open("readme-three", THREE_GATEWAYS);
    let [first, second, third, list, watch, write, kill] = &commands[..] else { panic!("{commands:?}") };
    for line in [first, second, third] {
        terminals.type_in(line);
    }
    // "Those that join vote a second or two later"
    let voters = terminals.mesh.wait_voters("fra", 3);
    assert_eq!(voters.len(), 3, "{voters:?}");
    terminals.type_in(list);
    let listed = terminals.said("causeway gateways");
    let (leads, votes) = (listed.matches(" leader ").count(), listed.matches(" voter ").count());
    assert_eq!((leads, votes), (1, 2), "{listed}");

    let watching = terminals.shell(&format!("exec {watch}"));
    terminals.running.push(watching);
    let mut writing = terminals.shell(write);
    let writes = |writing: &Process, count: usize| {
        wait_until(SOON, &format!("{count} writes are acknowledged"), || {
            acknowledged(&writing.log()).len() >= count
        });
    };
    writes(&writing, 10);
    terminals.type_in(kill);
    let before = acknowledged(&writing.log()).len();
    writes(&writing, before + 15);
    writing.kill();
    let done = acknowledged(&writing.log());
    let gap = done.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(0.0, f64::max);
    println!("{} writes, the longest gap between two is {gap:.3} s\n{}", done.len(), writing.log());
    assert!(gap < GAP, "no write was acknowledged for {gap} s");

    // "Start the first one again with the same command"
    terminals.type_in(first);
    for context in ["fra", "fra-2", "fra-3"] {
        wait_until(SOON, &format!("{context} has every acknowledged write"), || {
            let there = terminals.mesh.ok(&["services", "--all", "-o", "name", "--context", context]);
            done.iter().all(|(_, service)| there.lines().any(|line| line == service))
        });
    }
    // each change is shown once, and the gateway that died does not show
    let shown = |log: &str, service: &str| {
        log.lines().filter(|line| line.split_whitespace().nth(1) == Some(service)).count()
    };
    let watching = &terminals.running[3];
    for (_, service) in &done {
        wait_until(SOON, &format!("{service} is shown"), || shown(&watching.log(), service) > 0);
        assert_eq!(shown(&watching.log(), service), 1, "{service} in\n{}", watching.log());
    }
}
