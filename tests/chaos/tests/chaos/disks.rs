//! A gateway whose disk fails it stops taking part and says why; the others go on, and another one takes its place.

use causeway_test_chaos::{Damage, Fleet, SmallDisk, View, Writes, wait_equal};
use causeway_test_mesh::{Mesh, SOON, skip, wait_until};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The size of the disk that is filled, in bytes.
const DISK: u64 = 32 << 20;

/// A gateway's registry is damaged while it is away.
#[track_caller]
fn damaged(name: &str, damage: Damage) {
    let mesh = Mesh::new(name);
    let mut fleet = Fleet::builder(&mesh, "iad").start();
    let mut writes = Writes::start(&mut fleet, 2);
    wait_until(SOON, "writes are acknowledged", || writes.acknowledged() > 30);
    let index = fleet.wait_leader();
    let member = &mut fleet.members[index];
    member.process.kill();
    let before = member.said();
    let path = damage.inflict(&member.data_dir, &mut StdRng::seed_from_u64(7));
    member.restart();
    let said = member.wait_refusal(SOON, before);
    println!("{said}");
    assert!(said.contains(&path.display().to_string()), "{} is not named:\n{said}", path.display());

    // it is removed, and a new one joins
    fleet.remove(index);
    fleet.add(None);
    fleet.wait_voters();
    writes.use_gateways(&fleet);
    let goal = writes.acknowledged() + 30;
    wait_until(SOON, "writes go on", || writes.acknowledged() > goal);
    writes.stop();
    let verdict = writes.judge(&wait_equal(&fleet.admins(), SOON).exports);
    assert!(verdict.lost.is_empty() && verdict.ghosts.is_empty(), "{verdict:?}");
}

#[test]
fn a_truncated_registry_is_refused_by_name_and_replaced() {
    damaged("truncated", Damage::Truncated);
}

#[test]
fn a_registry_with_flipped_bits_is_refused_by_name_and_replaced() {
    damaged("flipped", Damage::Flipped);
}

#[test]
fn a_full_disk_ends_the_gateway_with_the_cause_and_loses_nothing() {
    if let Some(why) = SmallDisk::refused() {
        return skip("disks::a_full_disk", &format!("a small disk cannot be mounted: {why}"));
    }
    let mesh = Mesh::new("full-disk");
    let mut fleet = Fleet::builder(&mesh, "iad").small_disk(2, DISK).start();
    let mut writes = Writes::start(&mut fleet, 2);
    wait_until(SOON, "writes are acknowledged", || writes.acknowledged() > 30);
    let member = &mut fleet.members[2];
    let before = member.said();
    member.disk.as_ref().unwrap().fill().unwrap();
    let said = member.wait_refusal(SOON, before);
    println!("{said}");
    let data = member.data_dir.display().to_string();
    assert!(said.contains(&data) && said.to_lowercase().contains("space"), "{said}");

    // the others go on
    let goal = writes.acknowledged() + 30;
    wait_until(SOON, "writes go on", || writes.acknowledged() > goal);
    // while there is no room it cannot take part, and says so again
    let member = &mut fleet.members[2];
    let before = member.said();
    member.restart();
    let ended = member.wait_refusal(SOON, before);
    println!("{ended}");
    assert!(ended.contains(&data), "{ended}");
    member.disk.as_ref().unwrap().free().unwrap();
    member.restart();
    member.wait_ready();
    writes.stop();
    let view: View = wait_equal(&fleet.admins(), SOON);
    let verdict = writes.judge(&view.exports);
    assert!(verdict.lost.is_empty() && verdict.ghosts.is_empty(), "{verdict:?}");
}
