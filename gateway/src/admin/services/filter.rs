//! Which services are asked for.

use super::pattern::Pattern;
use crate::admin::api::{HealthIs, Offer, OfferOrigin, Service, ServiceQuery};
use crate::admin::error::ApiError;
use crate::admin::extract::{parse, parse_if};
use causeway_model::{ClusterName, Label, ServiceName, ServicePort};

/// Which services are asked for: those of a name, one of whose offers is as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Nothing when no name can be meant.
    pub(super) names: Option<Pattern>,
    region: Option<String>,
    zone: Option<String>,
    cluster: Option<ClusterName>,
    health: Option<HealthIs>,
    stale: bool,
    origin: Option<OfferOrigin>,
    port: Option<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Port {
    Number(u16),
    /// As an offer has it as text.
    Exact(String),
}

impl Filter {
    pub(super) fn of(query: &ServiceQuery) -> Result<Self, ApiError> {
        let pattern: Pattern = parse_if("name", query.name.as_deref())?.unwrap_or_default();
        let namespace: Option<Label> = parse_if("namespace", query.namespace.as_deref())?;
        Ok(Self {
            names: match namespace {
                Some(namespace) => pattern.within(&namespace),
                None => Some(pattern),
            },
            region: query.region.clone(),
            zone: query.zone.clone(),
            cluster: parse_if("cluster", query.cluster.as_deref())?,
            health: query.health,
            stale: query.stale,
            origin: query.origin,
            port: query.port.as_deref().map(port).transpose()?,
        })
    }

    /// Whether a service of that name may be among them.
    pub(super) fn names(&self, name: &ServiceName) -> bool {
        self.names.as_ref().is_some_and(|pattern| pattern.matches(name))
    }

    /// Whether `service`, whose name is fine, is among them.
    pub(super) fn takes(&self, service: &Service) -> bool {
        self.takes_any_offer() || service.offers.iter().any(|offer| self.takes_offer(offer))
    }

    fn takes_any_offer(&self) -> bool {
        *self == Self { names: self.names.clone(), ..Self::default() }
    }

    fn takes_offer(&self, offer: &Offer) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.region, &offer.region)
            && self.zone.as_ref().is_none_or(|zone| offer.zones.contains(zone))
            && self.cluster.as_ref().is_none_or(|cluster| cluster.as_str() == offer.cluster)
            && self.health.is_none_or(|health| health == health_of(offer))
            && (!self.stale || offer.stale_for.is_some())
            && self.origin.is_none_or(|origin| origin_word(origin) == offer.origin)
            && self.port.as_ref().is_none_or(|port| offer.ports.iter().any(|found| port.is(found)))
    }
}

impl Port {
    fn is(&self, found: &str) -> bool {
        match self {
            Self::Number(port) => found.split('/').next().and_then(|text| text.parse().ok()) == Some(*port),
            Self::Exact(port) => port == found,
        }
    }
}

fn port(text: &str) -> Result<Port, ApiError> {
    let parsed: ServicePort = parse("port", text)?;
    Ok(if text.contains('/') { Port::Exact(parsed.to_string()) } else { Port::Number(parsed.port) })
}

fn health_of(offer: &Offer) -> HealthIs {
    match (offer.healthy, offer.total) {
        (_, 0) => HealthIs::None,
        (0, _) => HealthIs::Unhealthy,
        _ => HealthIs::Healthy,
    }
}

/// As [`Offer::origin`] says it.
pub(super) fn origin_word(origin: OfferOrigin) -> &'static str {
    match origin {
        OfferOrigin::Local => "local",
        OfferOrigin::Imported => "imported",
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{offer, service};
    use super::*;

    fn takes(query: &ServiceQuery, service: &Service) -> bool {
        Filter::of(query).unwrap().takes(service)
    }

    #[test]
    fn names_ports_and_clusters_are_checked() {
        let field = |query: ServiceQuery| Filter::of(&query).unwrap_err().problem.message;
        let query = ServiceQuery::default;
        assert!(field(ServiceQuery { name: Some("A.b".into()), ..query() }).starts_with("name: "));
        assert!(field(ServiceQuery { namespace: Some("a.b".into()), ..query() }).starts_with("namespace: "));
        assert!(field(ServiceQuery { cluster: Some("A".into()), ..query() }).starts_with("cluster: "));
        assert!(field(ServiceQuery { port: Some("0".into()), ..query() }).starts_with("port: "));
    }

    #[test]
    fn a_service_is_taken_for_an_offer_that_is_all_of_it() {
        let both = service("a.b", vec![offer("iad", "us-ashburn-1"), offer("phx", "us-phoenix-1")]);
        let query = |region: Option<&str>, cluster: Option<&str>| ServiceQuery {
            region: region.map(str::to_owned),
            cluster: cluster.map(str::to_owned),
            ..ServiceQuery::default()
        };
        for (region, cluster, expected) in [
            (None, None, true),
            (Some("us-phoenix-1"), None, true),
            (None, Some("iad"), true),
            (Some("us-phoenix-1"), Some("phx"), true),
            (Some("us-phoenix-1"), Some("iad"), false),
            (Some("eu-frankfurt-1"), None, false),
        ] {
            assert_eq!(takes(&query(region, cluster), &both), expected, "{region:?} {cluster:?}");
        }
        let none = service("a.b", Vec::new());
        assert!(takes(&ServiceQuery::default(), &none) && !takes(&query(None, Some("iad")), &none));
    }

    #[test]
    fn health_staleness_origin_zone_and_port() {
        let with = |healthy, total| Offer { healthy, total, ..offer("phx", "r") };
        let of = |offer: Offer| service("a.b", vec![offer]);
        let health = |health| ServiceQuery { health: Some(health), ..ServiceQuery::default() };
        for (found, healthy, total) in
            [(HealthIs::Healthy, 1, 2), (HealthIs::Unhealthy, 0, 2), (HealthIs::None, 0, 0)]
        {
            for asked in [HealthIs::Healthy, HealthIs::Unhealthy, HealthIs::None] {
                assert_eq!(takes(&health(asked), &of(with(healthy, total))), asked == found);
            }
        }
        let stale = ServiceQuery { stale: true, ..ServiceQuery::default() };
        assert!(!takes(&stale, &of(with(1, 1))));
        assert!(takes(&stale, &of(Offer { stale_for: Some(0), ..with(1, 1) })));
        let origin = |origin| ServiceQuery { origin: Some(origin), ..ServiceQuery::default() };
        assert!(
            takes(&origin(OfferOrigin::Imported), &of(with(1, 1)))
                && !takes(&origin(OfferOrigin::Local), &of(with(1, 1)))
        );
        let zone = |zone: &str| ServiceQuery { zone: Some(zone.into()), ..ServiceQuery::default() };
        assert!(takes(&zone("AD-1"), &of(with(1, 1))) && !takes(&zone("AD-2"), &of(with(1, 1))));
        for (port, expected) in [("80", true), ("80/tcp", true), ("80/http", false), ("8", false)] {
            let query = ServiceQuery { port: Some(port.into()), ..ServiceQuery::default() };
            assert_eq!(takes(&query, &of(with(1, 1))), expected, "{port}");
        }
    }
}
