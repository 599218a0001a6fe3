//! The leader of three real gateways is killed again and again, while others write.

use crate::args::Args;
use crate::figures::Figures;
use crate::times::Times;
use causeway_test_chaos::{Fleet, Writes, wait_equal};
use causeway_test_mesh::{Mesh, SOON, wait_until};

/// Writers; each asks another gateway when one does not answer within half a second.
const WRITERS: usize = 4;
/// How long writes may be refused, in milliseconds.
const GOAL: f64 = 1000.0;

/// Measures the longest time without an acknowledged write around each kill.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    let mesh = Mesh::new("scale-election");
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let mut writes = Writes::start(&mut fleet, WRITERS);
    let mut gaps = Times::default();
    for _ in 0..args.kills {
        acknowledged(&writes, 100);
        let leader = fleet.wait_leader();
        writes.gaps().take_recent();
        fleet.members[leader].process.kill();
        acknowledged(&writes, 50);
        gaps.add(writes.gaps().take_recent().length);
        let member = &mut fleet.members[leader];
        member.restart();
        member.wait_ready();
        fleet.wait_voters();
    }
    writes.stop();
    let verdict = writes.judge(&wait_equal(&fleet.admins(), SOON).exports);
    gaps.note(figures, &format!("{} kills of the leader: no write acknowledged for", args.kills), Some(GOAL));
    figures.note("writes acknowledged", verdict.acknowledged as f64, "");
    figures.hold("acknowledged writes lost", verdict.lost.len() as f64, "", 1.0);
}

/// Waits for so many more writes.
fn acknowledged(writes: &Writes, more: u64) {
    let before = writes.acknowledged();
    wait_until(SOON, "writes are acknowledged", || writes.acknowledged() >= before + more);
}
