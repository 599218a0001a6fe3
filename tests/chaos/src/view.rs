//! What one gateway answers about its cluster, without what may differ between gateways that agree.

use crate::admin::{Admin, Answer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The services of one page.
const PAGE: usize = 1000;

/// What a gateway knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Services by name: who offers them, where, how many endpoints are healthy.
    pub services: BTreeMap<String, Value>,
    /// Live workloads by id: identity, services, the gateways that vouch for them.
    pub workloads: BTreeMap<String, Value>,
    /// The clusters that each exported service is exported to.
    pub exports: BTreeMap<String, BTreeSet<String>>,
    /// The ids of tokens.
    pub tokens: BTreeSet<String>,
}

impl View {
    /// Asks a gateway.
    ///
    /// # Errors
    /// What it did not answer, in words.
    pub fn of(admin: &Admin) -> Result<Self, String> {
        Ok(Self {
            services: services(admin)?,
            workloads: list(admin, "/v1/workloads")?.iter().map(workload).collect(),
            exports: list(admin, "/v1/exports")?.iter().map(export).collect(),
            tokens: list(admin, "/v1/tokens")?.iter().map(|token| text(&token["id"])).collect(),
        })
    }

    /// The first difference to `other`, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        first("service", &self.services, &other.services)
            .or_else(|| first("workload", &self.workloads, &other.workloads))
            .or_else(|| first("export", &self.exports, &other.exports))
            .or_else(|| {
                let apart = self.tokens.symmetric_difference(&other.tokens).next();
                apart.map(|token| format!("token {token} is known to one only"))
            })
    }

    /// The identities of the live workloads, each as often as there are workloads of it.
    pub fn identities(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.workloads.values().map(|workload| text(&workload["identity"])).collect();
        all.sort();
        all
    }

    /// The names of the services that cluster `of` offers.
    pub fn offered_by(&self, of: &str) -> BTreeSet<String> {
        let offers = |service: &Value| {
            service.as_array().is_some_and(|all| all.iter().any(|offer| offer["cluster"] == of))
        };
        self.services.iter().filter(|(_, service)| offers(service)).map(|(name, _)| name.clone()).collect()
    }

    /// How many healthy endpoints cluster `of` has for a service.
    pub fn healthy(&self, service: &str, of: &str) -> u64 {
        let offers = self.services.get(service).and_then(Value::as_array).into_iter().flatten();
        offers.filter(|offer| offer["cluster"] == of).filter_map(|offer| offer["healthy"].as_u64()).sum()
    }
}

/// Waits until all gateways answer the same, and returns that; panics with the difference when they do not within `limit`.
#[track_caller]
pub fn wait_equal(admins: &[Admin], limit: Duration) -> View {
    let mut apart = String::new();
    let mut found = View::default();
    let began = std::time::Instant::now();
    loop {
        match views(admins) {
            Ok(views) => {
                let differs = views.iter().zip(admins).find_map(|(view, admin)| {
                    views[0]
                        .difference(view)
                        .map(|what| format!("{} and {}: {what}", admins[0].name(), admin.name()))
                });
                match differs {
                    Some(what) => apart = what,
                    None => found = views.into_iter().next().unwrap_or_default(),
                }
                if !found.services.is_empty() || !found.workloads.is_empty() {
                    return found;
                }
            }
            Err(error) => apart = error,
        }
        assert!(began.elapsed() < limit, "gateways do not agree after {limit:?}: {apart}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn views(admins: &[Admin]) -> Result<Vec<View>, String> {
    admins.iter().map(|admin| View::of(admin).map_err(|error| format!("{}: {error}", admin.name()))).collect()
}

fn first<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    ours: &BTreeMap<String, T>,
    theirs: &BTreeMap<String, T>,
) -> Option<String> {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let apart = names.into_iter().find(|name| ours.get(*name) != theirs.get(*name))?;
    Some(format!("{kind} {apart} is {:?} and {:?}", ours.get(apart), theirs.get(apart)))
}

fn services(admin: &Admin) -> Result<BTreeMap<String, Value>, String> {
    let (mut all, mut after) = (BTreeMap::new(), String::new());
    loop {
        let page = object(admin, &format!("/v1/services?limit={PAGE}{after}"))?;
        all.extend(page["services"].as_array().into_iter().flatten().map(service));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

/// A service by name, without what a gateway knows of links it holds itself and of endpoints that only its sidecars use.
pub(crate) fn service(service: &Value) -> (String, Value) {
    let mut offers: Vec<Value> = service["offers"].as_array().into_iter().flatten().map(offer).collect();
    offers.sort_by_key(|offer| text(&offer["cluster"]));
    (text(&service["name"]), Value::Array(offers))
}

fn offer(offer: &Value) -> Value {
    let mut shown = json!({});
    for field in ["cluster", "zones", "ports", "healthy", "total", "origin", "exported_to", "identities"] {
        shown[field] = offer[field].clone();
    }
    if offer["origin"] == "local" {
        let endpoints = offer["endpoints"].as_array().into_iter().flatten();
        let mut endpoints: Vec<String> = endpoints
            .map(|endpoint| format!("{} {}", text(&endpoint["workload"]), text(&endpoint["health"])))
            .collect();
        endpoints.sort();
        shown["endpoints"] = json!(endpoints);
    }
    shown
}

fn workload(workload: &Value) -> (String, Value) {
    let mut gateways: Vec<String> = workload["gateways"].as_array().into_iter().flatten().map(text).collect();
    gateways.sort();
    let mut shown = json!({ "gateways": gateways });
    for field in ["identity", "services", "health"] {
        shown[field] = workload[field].clone();
    }
    (text(&workload["id"]), shown)
}

fn export(export: &Value) -> (String, BTreeSet<String>) {
    (text(&export["service"]), export["to"].as_array().into_iter().flatten().map(text).collect())
}

fn list(admin: &Admin, path: &str) -> Result<Vec<Value>, String> {
    object(admin, path).map(|value| value.as_array().cloned().unwrap_or_default())
}

fn object(admin: &Admin, path: &str) -> Result<Value, String> {
    match admin.get(path) {
        Answer::Done(value) => Ok(value),
        other => Err(format!("{path}: {other:?}")),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(healthy: u32, stale: Option<u32>) -> View {
        let local = json!({
            "cluster": "iad", "origin": "local", "healthy": healthy, "stale_for": stale,
            "endpoints": [{"workload": "2", "health": "healthy"}, {"workload": "1", "health": "healthy"}],
        });
        let imported =
            json!({"cluster": "phx", "origin": "imported", "healthy": 1, "endpoints": [{"workload": stale}]});
        let services = [service(&json!({"name": "a.x", "offers": [imported, local]}))].into();
        let exports = [export(&json!({"service": "a.x", "to": ["*"]}))].into();
        let workloads =
            [workload(&json!({"id": "1", "identity": "spiffe://x", "gateways": ["2", "1"]}))].into();
        View { services, workloads, exports, tokens: ["t".to_owned()].into() }
    }

    #[test]
    fn views_differ_by_what_is_known_and_not_by_how_long_a_link_is_silent() {
        assert_eq!(view(2, None).difference(&view(2, Some(4))), None);
        assert_eq!((view(2, None).healthy("a.x", "iad"), view(2, None).healthy("a.x", "fra")), (2, 0));
        let differs = |change: fn(&mut View)| {
            let mut other = view(2, None);
            change(&mut other);
            view(2, None).difference(&other).is_some()
        };
        assert!(differs(|view| *view = self::view(1, None)));
        assert!(differs(|view| drop(view.services.pop_first())));
        assert!(differs(|view| drop(view.workloads.pop_first())));
        assert!(differs(|view| drop(view.exports.insert("a.x".into(), ["phx".to_owned()].into()))));
        assert!(differs(|view| drop(view.tokens.pop_first())));
        assert_eq!(view(2, None).offered_by("phx"), ["a.x".to_owned()].into());
        assert_eq!(view(2, None).identities(), ["spiffe://x"]);
    }
}
