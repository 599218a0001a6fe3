//! Faults of single gateways: their processes, disks and registries.

use super::Injector;
use crate::damage::Damage;
use crate::fault::{Kind, Planned};
use causeway_test_mesh::SOON;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// How long a disk stays full for a gateway that has room in its file yet.
const FILLED: Duration = Duration::from_secs(30);

impl Injector {
    /// Which gateway of `cluster` a fault of that kind is for.
    #[track_caller]
    pub(super) fn target(&mut self, kind: Kind, cluster: usize, random: &mut StdRng) -> usize {
        let fleet = &mut self.fleets[cluster];
        let leader = fleet.wait_leader();
        if matches!(kind, Kind::KillLeader | Kind::StopLeader) {
            return leader;
        }
        let others: Vec<usize> = (0..fleet.members.len()).filter(|index| *index != leader).collect();
        others[random.random_range(0..others.len())]
    }

    #[track_caller]
    pub(super) fn kill(&mut self, planned: &Planned, count: usize, random: &mut StdRng) {
        let first = self.target(planned.kind, planned.cluster, random);
        let members = self.fleets[planned.cluster].members.len();
        let killed: Vec<usize> = (0..count).map(|number| (first + number) % members).collect();
        for &index in &killed {
            self.fleets[planned.cluster].members[index].process.kill();
        }
        self.hold(planned);
        for &index in &killed {
            self.fleets[planned.cluster].members[index].restart();
        }
        for &index in &killed {
            self.fleets[planned.cluster].members[index].wait_ready();
        }
    }

    #[track_caller]
    pub(super) fn stop(&mut self, planned: &Planned, random: &mut StdRng) {
        let index = self.target(planned.kind, planned.cluster, random);
        self.fleets[planned.cluster].members[index].stop();
        self.hold(planned);
        let member = &mut self.fleets[planned.cluster].members[index];
        member.go_on();
        member.wait_ready();
    }

    /// The disk of one gateway is full: it says so and ends, and comes back when there is room. It may have room enough in its
    /// file for what comes meanwhile; then nothing happens.
    #[track_caller]
    pub(super) fn fill(&mut self, planned: &Planned) {
        let members = &mut self.fleets[planned.cluster].members;
        let index =
            members.iter().position(|member| member.disk.is_some()).expect("a gateway with a small disk");
        let member = &mut members[index];
        let before = member.said();
        member.disk.as_ref().expect("it has one").fill().expect("a disk can be filled");
        let began = Instant::now();
        while member.process.exit().is_none() && began.elapsed() < FILLED {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = member.process.exit().is_some();
        if ended {
            let said = member.wait_refusal(SOON, before);
            assert!(said.contains(&member.data_dir.display().to_string()), "no file is named:\n{said}");
            self.hold(planned);
        } else {
            println!("           it needed no more space within {FILLED:?}");
        }
        let member = &mut self.fleets[planned.cluster].members[index];
        member.disk.as_ref().expect("it has one").free().expect("a full disk can be emptied");
        if ended {
            member.restart();
        }
        member.wait_ready();
    }

    /// A gateway's registry is damaged while it is away: it refuses to start, and another one takes its place.
    #[track_caller]
    pub(super) fn damage(&mut self, planned: &Planned, damage: Damage, random: &mut StdRng) {
        let fleet = &mut self.fleets[planned.cluster];
        let indices: Vec<usize> =
            (0..fleet.members.len()).filter(|&index| fleet.members[index].disk.is_none()).collect();
        let index = indices[random.random_range(0..indices.len())];
        let member = &mut fleet.members[index];
        member.process.kill();
        let before = member.said();
        let path = damage.inflict(&member.data_dir, random);
        member.restart();
        let said = member.wait_refusal(SOON, before);
        assert!(said.contains(&path.display().to_string()), "{} is not named:\n{said}", path.display());
        self.hold(planned);
        let fleet = &mut self.fleets[planned.cluster];
        fleet.remove(index);
        fleet.add(None);
        fleet.wait_voters();
        self.writes[planned.cluster].use_gateways(fleet);
        for watcher in &self.watchers[planned.cluster] {
            watcher.use_gateways(fleet);
        }
    }
}
