//! `/v1/services` and `/v1/resolve`: services wherever they run.
//!
//! `services/view.rs` shows one, `services/watch.rs` tells what changes. Here is which are asked for, and in what portions.

mod view;
mod watch;

use super::api::{Service, ServicePage, ServiceQuery};
use super::error::ApiError;
use super::extract::{Ask, Segment, parse, parse_if};
use crate::hub::Hub;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use causeway_catalog::Refusal;
use causeway_model::{ClusterName, ServiceName};
use std::collections::BTreeSet;
use std::ops::Bound;
use view::service;

/// How many services a page has unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// The most services on a page.
const MAX_LIMIT: usize = 1000;
/// After so many services other work gets its turn.
const TURN: usize = 256;

pub(super) async fn list(
    State(hub): State<Hub>,
    Ask(query): Ask<ServiceQuery>,
) -> Result<Response, ApiError> {
    let filter = Filter::of(&query)?;
    if query.watch {
        if query.limit.is_some() || query.after.is_some() {
            let field = if query.limit.is_some() { "limit" } else { "after" };
            return Err(ApiError::invalid(field, "a watch has no pages: leave it out, or leave out watch"));
        }
        return Ok(watch::stream(hub, filter));
    }
    Ok(Json(page(&hub, &filter, Page::of(&query)?).await).into_response())
}

pub(super) async fn resolve(
    State(hub): State<Hub>,
    Segment(name): Segment,
) -> Result<Json<Service>, ApiError> {
    let name: ServiceName = parse("service", &name)?;
    let found = service(&hub, &name);
    Ok(Json(found.ok_or(Refusal::ServiceUnknown { service: name })?))
}

/// Which services are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    name: Option<ServiceName>,
    region: Option<String>,
    cluster: Option<ClusterName>,
}

impl Filter {
    fn of(query: &ServiceQuery) -> Result<Self, ApiError> {
        Ok(Self {
            name: parse_if("name", query.name.as_deref())?,
            region: query.region.clone(),
            cluster: parse_if("cluster", query.cluster.as_deref())?,
        })
    }

    /// Whether a service of that name may be among them.
    fn names(&self, name: &ServiceName) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
    }

    /// Whether `service`, whose name is fine, is among them.
    fn takes(&self, service: &Service) -> bool {
        let region = |wanted: &String| service.offers.iter().any(|offer| offer.region == *wanted);
        let cluster =
            |wanted: &ClusterName| service.offers.iter().any(|offer| offer.cluster == wanted.as_str());
        self.region.as_ref().is_none_or(region) && self.cluster.as_ref().is_none_or(cluster)
    }
}

/// A portion of an ordered list: what fits, and whether there is more.
#[derive(Debug)]
struct Page {
    limit: usize,
    after: Option<ServiceName>,
    services: Vec<Service>,
    more: bool,
}

impl Page {
    fn of(query: &ServiceQuery) -> Result<Self, ApiError> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid(
                "limit",
                format!("{limit} is out of bounds: give 1 to {MAX_LIMIT}"),
            ));
        }
        let after = parse_if("after", query.after.as_deref())?;
        Ok(Self { limit, after, services: Vec::new(), more: false })
    }

    /// The names that may be on it: in the order of namespaces, then services.
    fn names<'a>(&self, all: &'a BTreeSet<ServiceName>) -> impl Iterator<Item = &'a ServiceName> + use<'a> {
        let from = self.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        all.range((from, Bound::Unbounded))
    }

    /// Takes a service while there is room; false once it is known that there is more.
    fn take(&mut self, service: Service) -> bool {
        if self.services.len() < self.limit {
            self.services.push(service);
        } else {
            self.more = true;
        }
        !self.more
    }

    fn finish(self, revision: u64) -> ServicePage {
        let next = self.services.last().filter(|_| self.more).map(|last| last.name.clone());
        ServicePage { revision, services: self.services, next }
    }
}

async fn page(hub: &Hub, filter: &Filter, mut page: Page) -> ServicePage {
    let revision = hub.registry.revision().0;
    let all = match &filter.name {
        Some(name) => BTreeSet::from([name.clone()]),
        None => hub.service_names(),
    };
    for (count, name) in page.names(&all).enumerate() {
        if count % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        if let Some(service) = service(hub, name).filter(|service| filter.takes(service))
            && !page.take(service)
        {
            break;
        }
    }
    page.finish(revision)
}

#[cfg(test)]
mod tests {
    use super::view::tests::{offer, service};
    use super::*;

    fn query() -> ServiceQuery {
        ServiceQuery::default()
    }

    fn names(names: &[&str]) -> BTreeSet<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn fill(query: &ServiceQuery, all: &BTreeSet<ServiceName>) -> (Vec<String>, Option<String>) {
        let mut page = Page::of(query).unwrap();
        for name in page.names(all) {
            if !page.take(service(&name.to_string(), Vec::new())) {
                break;
            }
        }
        let page = page.finish(7);
        (page.services.into_iter().map(|service| service.name).collect(), page.next)
    }

    #[test]
    fn pages_follow_each_other_without_gaps_or_repeats() {
        let all = names(&["a.x", "b.x", "c.x", "a.y", "b.y"]);
        let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
        loop {
            let (mut page, next) = fill(&ServiceQuery { limit: Some(2), after, ..query() }, &all);
            seen.append(&mut page);
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen, pages), (all.iter().map(ToString::to_string).collect(), 3));
        assert_eq!(
            fill(&ServiceQuery { limit: Some(5), ..query() }, &all).1,
            None,
            "a full last page has no next"
        );
        let gone = ServiceQuery { after: Some("bb.x".into()), ..query() };
        assert_eq!(fill(&gone, &all).0, ["c.x", "a.y", "b.y"], "the name to go on after may be gone");
    }

    #[test]
    fn limits_and_names_are_checked() {
        for limit in [0, 1001] {
            let error = Page::of(&ServiceQuery { limit: Some(limit), ..query() }).unwrap_err();
            assert!(error.problem.message.starts_with("limit: "), "{}", error.problem.message);
        }
        let field = |query: ServiceQuery| Filter::of(&query).unwrap_err().problem.message;
        assert!(field(ServiceQuery { name: Some("a".into()), ..query() }).starts_with("name: "));
        assert!(field(ServiceQuery { cluster: Some("A".into()), ..query() }).starts_with("cluster: "));
        assert!(Page::of(&ServiceQuery { after: Some("a".into()), ..query() }).is_err());
    }

    #[test]
    fn a_service_is_taken_for_any_of_its_offers() {
        let both = service("a.b", vec![offer("iad", "us-ashburn-1"), offer("phx", "us-phoenix-1")]);
        let takes = |region: Option<&str>, cluster: Option<&str>| {
            let query = ServiceQuery {
                region: region.map(str::to_owned),
                cluster: cluster.map(str::to_owned),
                ..ServiceQuery::default()
            };
            Filter::of(&query).unwrap().takes(&both)
        };
        assert!(takes(None, None) && takes(Some("us-phoenix-1"), None) && takes(None, Some("iad")));
        assert!(!takes(Some("eu-frankfurt-1"), None) && !takes(None, Some("fra")));
    }
}
