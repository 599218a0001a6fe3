//! Changes of the registry of three real gateways: acknowledged ones in a second, each on two disks before it is acknowledged.

use crate::args::Args;
use crate::figures::Figures;
use crate::operator::Operator;
use crate::times::Times;
use causeway_test_chaos::Fleet;
use causeway_test_mesh::Mesh;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many clients write at the same time.
const CLIENTS: [usize; 2] = [1, 16];
/// How many exports a client leaves standing.
const STANDING: u64 = 8;

/// Measures writes through the leader and through a follower.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    let mesh = Mesh::new("scale-writes");
    disk(mesh.dir(), figures);
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    for number in 0..CLIENTS[1] {
        let wanted =
            json!({"role": "workload", "services": [format!("{}:80", service(number))], "account": "writer"});
        fleet.ask("a service to write to", |admin| admin.post("/v1/tokens", &wanted));
    }
    for clients in CLIENTS {
        let leader = fleet.wait_leader();
        let follower = (leader + 1) % fleet.members.len();
        for (through, member) in [("leader", leader), ("a follower", follower)] {
            let path = mesh.path(&format!("contexts/{}.toml", fleet.members[member].context));
            let (times, took) = load(&path, clients, Duration::from_secs(args.seconds));
            let of = format!("{clients} clients through {through}").replace("1 clients", "1 client");
            figures.note(format!("{of}: writes in a second"), times.len() as f64 / took.as_secs_f64(), "1/s");
            times.note(figures, &format!("{of}: a write"), None);
        }
        assert_eq!(fleet.wait_leader(), leader, "the leader changed meanwhile");
    }
}

fn service(writer: usize) -> String {
    format!("w{writer}.writes")
}

/// Clients that each export a service to more and more clusters, and take the oldest back.
fn load(context: &Path, clients: usize, lasts: Duration) -> (Times, Duration) {
    let begun = Instant::now();
    let write = |client: usize, path: PathBuf| {
        move || {
            let (operator, path, mut times) =
                (Operator::of(&path), format!("/v1/exports/{}", service(client)), Times::default());
            // names of its own in every load: an export that stands already would be no change
            let value = |number: u64| format!("c{}-{number}", begun.elapsed().as_nanos());
            let mut standing = std::collections::VecDeque::new();
            for number in 0.. {
                if begun.elapsed() > lasts {
                    break;
                }
                let named = value(number);
                let at = Instant::now();
                operator.put(&path, &json!({"to": [named]}));
                times.add(at.elapsed());
                standing.push_back(named);
                if standing.len() as u64 > STANDING {
                    let oldest = standing.pop_front().expect("one more than those that stay");
                    let at = Instant::now();
                    operator.delete(&format!("{path}?from={oldest}"));
                    times.add(at.elapsed());
                }
            }
            times
        }
    };
    let threads: Vec<_> =
        (0..clients).map(|client| std::thread::spawn(write(client, context.to_owned()))).collect();
    let mut all = Times::default();
    threads.into_iter().for_each(|thread| all.extend(thread.join().expect("a client ends well")));
    (all, begun.elapsed())
}

/// What the disk takes to keep 4 KiB: no write can be faster.
fn disk(folder: &Path, figures: &mut Figures) {
    let file = File::create(folder.join("disk")).expect("a file");
    let mut times = Times::default();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all_at(&[1; 4096], 0).expect("a write");
        file.sync_data().expect("fdatasync");
        times.add(begun.elapsed());
    }
    figures.note("fdatasync of 4 KiB on this disk, p50", times.quantile(0.5), "ms");
}
