//! `causeway services --watch`: everything there is, then what changes.

use super::{COLUMNS, row};
use crate::api::{Api, Request, ended};
use crate::output::{self, Format, Table};
use anyhow::{Context, Result};
use causeway_gateway::admin::api::{Service, ServiceEvent};

/// Shows events until the gateway ends the watch, which is an error: it was to go on.
pub(super) fn run(api: &Api, request: &Request, format: Format) -> Result<()> {
    let mut watch = api.watch(request)?;
    let mut rows = Rows::default();
    while let Some(event) = watch.next::<ServiceEvent>()? {
        match format {
            Format::Table => {
                let text = rows.tell(event);
                output::say(&text)?;
            }
            Format::Json => output::say(&serde_json::to_string(&event).context("cannot write JSON")?)?,
            Format::Yaml => {
                let document = serde_saphyr::to_string(&event).context("cannot write YAML")?;
                output::say(&format!("---\n{document}"))?;
            }
        }
    }
    Err(ended("the gateway closed the connection; it may be stopping").into())
}

/// The rows of the table: collected until everything that exists was told, so that its columns line up.
#[derive(Debug, Default)]
struct Rows {
    first: Vec<Service>,
    synced: bool,
}

impl Rows {
    /// What to show for an event; empty while collecting.
    fn tell(&mut self, event: ServiceEvent) -> String {
        match event {
            ServiceEvent::Set { service } if !self.synced => {
                self.first.push(service);
                String::new()
            }
            ServiceEvent::Set { service } => rows("changed", &[service], false),
            ServiceEvent::Removed { name } => {
                self.first.retain(|service| service.name != name);
                if self.synced { format!("removed  {}", output::printable(&name)) } else { String::new() }
            }
            ServiceEvent::Synced { .. } if !self.synced => {
                self.synced = true;
                rows("now", &std::mem::take(&mut self.first), true)
            }
            ServiceEvent::Synced { .. } => String::new(),
        }
    }
}

/// A row for each offer, with what happened first.
fn rows(what: &str, services: &[Service], header: bool) -> String {
    let mut table = if header { Table::new(columns()) } else { Table::headless() };
    for service in services {
        for offer in &service.offers {
            let [name, cluster, region, zones, ports, healthy, origin, stale] = row(&service.name, offer);
            // as wide as the longest word, so that later rows begin alike
            table.row([format!("{what:<7}"), name, cluster, region, zones, ports, healthy, origin, stale]);
        }
        if service.offers.is_empty() {
            let mut cells = [const { String::new() }; 9];
            (cells[0], cells[1]) = (format!("{what:<7}"), service.name.clone());
            table.row(cells);
        }
    }
    table.to_string()
}

fn columns() -> [&'static str; 9] {
    let mut columns = ["EVENT"; 9];
    columns[1..].copy_from_slice(&COLUMNS);
    columns
}

#[cfg(test)]
mod tests {
    use super::super::tests::service;
    use super::*;

    #[test]
    fn what_exists_is_one_table_and_changes_are_rows() {
        let mut rows = Rows::default();
        let set = |name| ServiceEvent::Set { service: service(name) };
        assert_eq!(rows.tell(set("a.b")), "");
        assert_eq!(rows.tell(set("payments.shop")), "");
        assert_eq!(rows.tell(ServiceEvent::Removed { name: "a.b".into() }), "");
        let expected = "\
EVENT    SERVICE        CLUSTER  REGION    ZONES      PORTS    HEALTHY  ORIGIN    STALE
now      payments.shop  iad      us-iad-1  AD-1,AD-2  80/http  2/3      local     -
now      payments.shop  phx      us-phx-1  AD-1,AD-2  80/http  2/3      imported  1m 5s";
        assert_eq!(rows.tell(ServiceEvent::Synced { revision: 7 }), expected);
        assert!(rows.tell(set("c.d")).starts_with("changed  c.d  iad  us-iad-1"));
        assert_eq!(rows.tell(ServiceEvent::Removed { name: "c.d".into() }), "removed  c.d");
    }
}
