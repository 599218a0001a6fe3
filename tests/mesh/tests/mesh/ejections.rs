//! An endpoint that fails in one way or another is left alone, and only that one; well again, it gets its share back.

use crate::arrivals::{Arrivals, Call, between, counts, failures};
use crate::shares::Ten;
use causeway_test_mesh::{Mood, SOON, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Time from one connection to the next.
const EVERY: Duration = Duration::from_millis(10);
/// How long a failing endpoint may get connections.
const OUT: Duration = Duration::from_secs(1);
/// For how long it is watched then.
const WATCHED: Duration = Duration::from_millis(1500);
/// How many connections show meanwhile that it is not well yet: it is left alone for half a second, then one, then two.
const TRIALS: u64 = 2;
/// What a single connection may take, if its endpoint is not to blame: the promise is kept by other endpoints.
const QUICK: Duration = Duration::from_secs(1);
/// How often an endpoint may break connections before it is left alone, and what may be on its way to it then.
const BREAKS: usize = 3 + 4;
/// With debugging of the choice, so that the log names who is ejected.
const LOG: &str = "info,causeway_sidecar::balance=debug";

/// Who is named as ejected in the last part of the client's log.
fn ejected(log: &str) -> BTreeSet<String> {
    let lines = log.lines().filter(|line| line.contains("ejected an endpoint"));
    let target = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["endpoint"].as_str().unwrap().to_owned()
    };
    lines.map(target).collect()
}

/// Lets one of ten endpoints fail with `mood`, and returns the connections that failed.
#[track_caller]
fn fails(ten: &mut Ten, at: usize, mood: Mood) -> Vec<String> {
    let name = format!("phx-{at}");
    let metrics = || ten.client.scrape();
    let count = |of: &str| metrics().sum(of, "");
    let (ejections, retries) =
        (count("causeway_sidecar_balance_ejections_total"), count("causeway_sidecar_balance_retries_total"));
    let said = ten.client.process.log().len();
    let arrivals = Arrivals::start(&[ten.client.addr(crate::shares::PORT)], EVERY);
    wait_until(SOON, "connections go on", || arrivals.so_far().len() >= 100);

    let failing = Instant::now();
    ten.endpoints[at].application.is(mood);
    std::thread::sleep(OUT);
    let before = ten.endpoints[at].application.taken();
    std::thread::sleep(WATCHED);
    let tried = ten.endpoints[at].application.taken() - before;
    let recovered = Instant::now();
    ten.endpoints[at].application.is(Mood::WELL);
    let share_is_back = |calls: &[Call]| {
        let last: Vec<&Call> = calls.iter().rev().take(100).collect();
        last.len() == 100
            && last.iter().all(|call| call.began > recovered)
            && counts(last).get(&name).is_some_and(|count| *count >= 5)
    };
    let took = wait_until(SOON, &format!("{name} gets its share again after {mood:?}"), || {
        share_is_back(&arrivals.so_far())
    });
    let calls = arrivals.end();

    let scrape = ten.client.scrape();
    let ejections = scrape.sum("causeway_sidecar_balance_ejections_total", "") - ejections;
    let retries = scrape.sum("causeway_sidecar_balance_retries_total", "") - retries;
    let who = ejected(&ten.client.process.log()[said..]);
    let failed = failures(&calls, failing);
    println!(
        "{mood:?}: {} calls, {} failed {failed:?}; {tried} tries after {OUT:?}, {ejections} ejections of {who:?}, {retries} \
         retries, its share was back after {took:?}",
        calls.len(),
        failed.len()
    );
    assert!(tried <= TRIALS, "{name} got {tried} connections in {WATCHED:?} after {OUT:?} of {mood:?}");
    assert_eq!(who.len(), 1, "only {name} is to blame");
    assert!(ejections >= 1.0, "nobody was ejected");
    let late = between(&calls, failing + OUT, recovered);
    let others = counts(late.iter().copied());
    assert!(others.len() == 9 && !others.contains_key(&name), "the nine others go on: {others:?}");
    let slow: Vec<_> = calls.iter().filter(|call| call.took > QUICK).collect();
    assert!(slow.is_empty(), "{slow:?}");
    failed
}

#[test]
fn a_failing_endpoint_is_out_within_a_second_and_back_when_it_is_well() {
    let mut ten = Ten::start("ejections", LOG);
    // where nobody listens, another endpoint gets the connection
    let failed = fails(&mut ten, 1, Mood::Refuses);
    assert_eq!(failed, Vec::<String>::new());
    // what an application has heard is not said again to another one
    for (at, mood) in [(2, Mood::Resets), (3, Mood::HangsUp), (4, Mood::Closes)] {
        let failed = fails(&mut ten, at, mood);
        assert!(failed.len() <= BREAKS + usize::try_from(TRIALS).unwrap(), "{mood:?}: {failed:?}");
    }
}
