//! Random faults under load. Slow: it runs when `CAUSEWAY_SLOW` is 1, for `CAUSEWAY_FAULT_SECONDS` (1800 unless given), with the
//! faults that follow from `CAUSEWAY_FAULT_SEED` (random unless given, and printed), of all kinds or of
//! those in `CAUSEWAY_FAULT_KINDS`, such as `kill-leader,full-disk`.

use causeway_test_chaos::{Injector, Kind, Plan};
use causeway_test_mesh::{Mesh, skip};
use std::time::{Duration, Instant};

const NAME: &str = "faults::random_faults_under_load_lose_nothing";

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

#[test]
fn random_faults_under_load_lose_nothing() {
    if std::env::var("CAUSEWAY_SLOW").as_deref() != Ok("1") {
        return skip(NAME, "slow: set CAUSEWAY_SLOW=1");
    }
    let limit = Duration::from_secs(number("CAUSEWAY_FAULT_SECONDS").unwrap_or(1_800));
    let seed = number("CAUSEWAY_FAULT_SEED").unwrap_or_else(rand::random);
    println!("CAUSEWAY_FAULT_SEED={seed}");
    skip(
        &format!("{NAME} (steps of the clock)"),
        "the clock of one process cannot be set without a library for it",
    );

    let mesh = Mesh::new("faults");
    let mut injector = Injector::start(&mesh, seed);
    let (kinds, left) = injector.kinds();
    if let Some((kind, why)) = left {
        skip(&format!("{NAME} ({kind})"), why);
    }
    let wanted = std::env::var("CAUSEWAY_FAULT_KINDS").unwrap_or_default();
    let is_wanted = |kind: &Kind| wanted.is_empty() || wanted.split(',').any(|name| name == kind.to_string());
    let kinds: Vec<Kind> = kinds.into_iter().filter(is_wanted).collect();
    assert!(!kinds.is_empty(), "CAUSEWAY_FAULT_KINDS={wanted} names no kind that can be injected");
    let mut plan = Plan::new(seed, &kinds);
    let began = Instant::now();
    while began.elapsed() < limit {
        let planned = plan.next().expect("a plan is endless");
        println!(
            "{:7.1} s  {} in cluster {} for {:?}",
            began.elapsed().as_secs_f64(),
            planned.kind,
            planned.cluster,
            planned.hold
        );
        injector.inject(&planned, plan.random());
    }
    let summary = injector.end(began.elapsed());
    println!("{summary}");
    assert!(summary.writes.lost.is_empty(), "lost: {:?}", summary.writes.lost);
    assert!(
        summary.writes.ghosts.is_empty() && summary.ghosts.is_empty(),
        "{:?} {:?}",
        summary.writes.ghosts,
        summary.ghosts
    );
    assert!(summary.writes.acknowledged > 0);
    let told = summary.requests.expect("requests were made");
    assert!(
        told.done > 0 && told.failures.is_empty(),
        "requests failed although there was a path: {:#?}",
        told.failures
    );
}
