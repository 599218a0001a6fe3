//! What `check` says while a fault lasts.

use super::Injector;
use crate::fault::{Kind, Planned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a fault has to last until `check` can have noticed it: a gateway is dead after three missed probes, a link silent
/// after some seconds.
const NOTICED: Duration = Duration::from_millis(2_500);

impl Injector {
    /// Lets a fault last, and asks `check` at its end.
    pub(super) fn hold(&mut self, planned: &Planned) {
        std::thread::sleep(planned.hold);
        if planned.hold < NOTICED {
            return;
        }
        // both sides of a link have something to say of it
        let both = matches!(planned.kind, Kind::CutLink | Kind::OneWay);
        let clusters = (0..2).filter(|cluster| both || *cluster == planned.cluster);
        let wrong: BTreeMap<String, String> = clusters.flat_map(|cluster| self.check(cluster)).collect();
        let new = || wrong.iter().filter(|(name, _)| !self.usual.contains(*name));
        for (name, cause) in new() {
            println!("           {name}: {cause}");
        }
        let named: BTreeSet<String> = new().map(|(name, _)| without_node(name)).collect();
        let of = self.summary.kinds.entry(planned.kind).or_default();
        of.silent += u64::from(named.is_empty());
        of.named.extend(named);
    }

    /// What `check` finds wrong at a running gateway: `CLUSTER: NAME (STATE)`, and the cause.
    pub(super) fn check(&mut self, cluster: usize) -> BTreeMap<String, String> {
        let fleet = &mut self.fleets[cluster];
        let found = fleet.ask("check", |admin| admin.get("/v1/check"));
        let wrong = found.as_array().into_iter().flatten().filter(|check| check["state"] != "ok");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name =
            |check: &Value| format!("{}: {} ({})", fleet.name(), text(&check["name"]), text(&check["state"]));
        wrong.map(|check| (name(check), text(&check["cause"]))).collect()
    }
}

/// `gateway 0123456789abcdef (failed)` as `gateway NODE (failed)`.
fn without_node(name: &str) -> String {
    let is_node = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = name.split(' ').map(|word| if is_node(word) { "NODE" } else { word }).collect();
    words.join(" ")
}
