//! `Service`: what a service of this cluster looks like. That there is one, and who may serve it, is said by tokens.

use super::faults::Faults;
use super::kind::Kind;
use super::plan::{Ground, Step};
use super::text::Text;
use crate::admin::exports::clusters;
use causeway_catalog::{Catalog, CommandBody, DeclarePorts, Refusal, RemoveService, Witness};
use causeway_model::{PortSet, ServiceName, ServicePort};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

pub(super) struct ServiceKind;

/// What can be said of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServiceSpec {
    /// Its ports, each as PORT or PORT/PROTOCOL; the protocol is tcp unless it is said to be udp, http or grpc. Once declared
    /// they stay as they are.
    ports: Ports,
}

/// Ports as documents write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(PortSet);

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Text))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ports = Vec::<Text<ServicePort>>::deserialize(deserializer)?;
        let ports: Vec<ServicePort> = ports.into_iter().map(|Text(port)| port).collect();
        PortSet::try_from(ports).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "ports".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Vec::<Text<ServicePort>>::json_schema(generator);
        schema.insert("maxItems".to_owned(), PortSet::MAX.into());
        schema.insert("uniqueItems".to_owned(), true.into());
        schema
    }
}

impl Kind for ServiceKind {
    const NAME: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const ABOUT: &'static str = "A service of this cluster and its ports. A token makes it (causeway token create --service), \
                                 and says who may serve it.";
    const EXAMPLE: &'static str = "\
apiVersion: causeway/v1
kind: Service
metadata:
  name: orders.shop
spec:
  ports: [80/http, 9090/grpc]
";

    type Name = ServiceName;
    type Spec = ServiceSpec;

    fn names(catalog: &Catalog, after: Option<&ServiceName>, limit: usize) -> Vec<ServiceName> {
        catalog.services_after(after).take(limit).map(|service| service.name.clone()).collect()
    }

    fn read(catalog: &Catalog, name: &ServiceName) -> Option<ServiceSpec> {
        catalog.service(name).map(|service| ServiceSpec { ports: Ports(service.ports.clone()) })
    }

    fn status(catalog: &Catalog, name: &ServiceName) -> Map<String, Value> {
        let Some(service) = catalog.service(name) else { return Map::new() };
        let identities: Vec<String> = service.identities.iter().map(ToString::to_string).collect();
        let exported = catalog.export_of(name).map(|export| clusters(&export.to)).unwrap_or_default();
        Map::from_iter([
            ("identities".to_owned(), json!(identities)),
            ("exportedTo".to_owned(), json!(exported)),
        ])
    }

    fn steps(
        _: &Ground,
        name: &ServiceName,
        from: Option<&ServiceSpec>,
        to: &ServiceSpec,
        faults: &mut Faults,
    ) -> Vec<Step> {
        if from.is_none() {
            let rule = format!(
                "no token names service {name}, so nobody may serve it: `causeway token create --service {name}` makes both"
            );
            faults.add("metadata.name", Some(&Value::from(name.to_string())), "service-unknown", rule);
            return Vec::new();
        }
        let ports = to.ports.0.clone();
        if ports.is_empty() {
            let rule = "ports that are declared stay: write them, or delete the service and its tokens";
            faults.add("spec.ports", Some(&json!([])), "ports-differ", rule);
            return Vec::new();
        }
        let was = Witness::Service(from.map(|from| from.ports.0.clone()));
        vec![Step::change("spec.ports", was, DeclarePorts { service: name.clone(), ports })]
    }

    fn removal(name: ServiceName) -> CommandBody {
        RemoveService { name }.into()
    }

    fn missing(service: ServiceName) -> Refusal {
        Refusal::ServiceUnknown { service }
    }
}
