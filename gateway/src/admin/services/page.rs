//! A page of services: the next ones by name, or the first ones in another order.

use super::filter::Filter;
use super::view::services;
use super::walk::Walk;
use crate::admin::api::{Service, ServicePage, ServiceQuery, SortBy, SortKey};
use crate::admin::error::ApiError;
use crate::admin::extract::parse_if;
use crate::hub::Hub;
use axum::http::StatusCode;
use causeway_model::ServiceName;
use std::collections::BTreeMap;
use std::time::Instant;

/// How many services a page has unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// The most services on a page.
const MAX_LIMIT: usize = 1000;
/// After so many names a page ends, even if few of their services were asked for: the next one goes on.
const MAX_MET: usize = 10_000;
/// The most services that are put in another order than by name.
const MAX_SORTED: usize = 100_000;

/// What a page is to be.
#[derive(Debug)]
pub(super) struct Page {
    limit: usize,
    after: Option<ServiceName>,
    sort: SortBy,
}

impl Page {
    pub(super) fn of(query: &ServiceQuery) -> Result<Self, ApiError> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid(
                "limit",
                format!("{limit} is out of bounds: give 1 to {MAX_LIMIT}"),
            ));
        }
        let after = parse_if("after", query.after.as_deref())?;
        if after.is_some() && query.sort != SortBy::Name {
            return Err(ApiError::invalid(
                "after",
                "pages follow each other by name: leave it out, or leave out sort",
            ));
        }
        Ok(Self { limit, after, sort: query.sort })
    }
}

/// What is on a page.
#[derive(Debug, Default)]
struct Found {
    services: Vec<Service>,
    next: Option<String>,
    matched: Option<u64>,
}

/// The page of the services that `filter` takes.
pub(super) async fn page(hub: &Hub, filter: Filter, page: Page) -> Result<ServicePage, ApiError> {
    let started = Instant::now();
    let revision = hub.registry.revision().0;
    let mut met = 0;
    let found = match filter.names.as_ref().map(|pattern| Walk::new(pattern, page.after.as_ref())) {
        None => Found::default(),
        Some(mut walk) => {
            let found = match page.sort {
                SortBy::Name => by_name(hub, &filter, &mut walk, page.limit).await,
                sort => sorted(hub, &filter, &mut walk, page.limit, sort).await?,
            };
            met = walk.met();
            found
        }
    };
    Ok(ServicePage {
        node: hub.node.id().to_string(),
        revision,
        took_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        looked_at: met as u64,
        matched: found.matched,
        services: found.services,
        next: found.next,
    })
}

async fn by_name(hub: &Hub, filter: &Filter, walk: &mut Walk, limit: usize) -> Found {
    let mut found = Found::default();
    while !walk.is_done() {
        // one more than fits tells whether there are more
        let room = limit + 1 - found.services.len();
        found.services.extend(turn(hub, filter, walk, room).await);
        if found.services.len() > limit {
            found.services.truncate(limit);
            found.next = found.services.last().map(|last| last.name.clone());
            break;
        }
        if walk.met() >= MAX_MET && !walk.is_done() {
            found.next = walk.last().map(ToString::to_string);
            break;
        }
    }
    found
}

/// Those that come first in another order. No more of them than asked for are held at a time.
async fn sorted(
    hub: &Hub,
    filter: &Filter,
    walk: &mut Walk,
    limit: usize,
    sort: SortBy,
) -> Result<Found, ApiError> {
    let mut first: BTreeMap<SortKey, Service> = BTreeMap::new();
    let mut matched = 0;
    while !walk.is_done() {
        for service in turn(hub, filter, walk, usize::MAX).await {
            matched += 1;
            first.insert(sort.key(&service), service);
            if first.len() > limit {
                first.pop_last();
            }
        }
        if matched > MAX_SORTED {
            return Err(too_many());
        }
    }
    Ok(Found { services: first.into_values().collect(), next: None, matched: Some(matched as u64) })
}

fn too_many() -> ApiError {
    let message = format!(
        "sort: there are more than {MAX_SORTED} services to put in order, which would take too long: ask for fewer, by namespace, \
         name, cluster or region, or leave out sort: by name there is no limit"
    );
    ApiError::new(StatusCode::BAD_REQUEST, "too-many-services", message)
}

/// The next services of a walk that `filter` takes, at most `most`; other work has had its turn.
async fn turn(hub: &Hub, filter: &Filter, walk: &mut Walk, most: usize) -> Vec<Service> {
    if walk.met() > 0 {
        tokio::task::yield_now().await;
    }
    let Some(pattern) = &filter.names else { return Vec::new() };
    let names = walk.next(hub, pattern, most);
    services(hub, &names).into_iter().filter(|service| filter.takes(service)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_cursors_are_checked() {
        let query = ServiceQuery::default;
        for limit in [0, 1001] {
            let error = Page::of(&ServiceQuery { limit: Some(limit), ..query() }).unwrap_err();
            assert!(error.problem.message.starts_with("limit: "), "{}", error.problem.message);
        }
        assert!(Page::of(&ServiceQuery { after: Some("a".into()), ..query() }).is_err());
        let both = ServiceQuery { after: Some("a.b".into()), sort: SortBy::Stale, ..query() };
        assert!(Page::of(&both).unwrap_err().problem.message.starts_with("after: "));
    }
}
