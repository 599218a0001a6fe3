//! Services as rows of a table that may be printed in portions.

use crate::output::{Table, list, seconds};
use causeway_gateway::admin::api::{Offer, Service};

/// How much of an offer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Plain,
    Wide,
}

const PLAIN: [&str; 8] = ["SERVICE", "CLUSTER", "REGION", "ZONES", "PORTS", "HEALTHY", "ORIGIN", "STALE"];
const MORE: [&str; 2] = ["EXPORTED TO", "IDENTITIES"];

/// A table of services: its header comes with the first portion, and the columns of later ones are as wide as those before
/// them, unless they need more.
#[derive(Debug)]
pub(super) struct Rows {
    width: Width,
    /// What stands before each row, if anything does: the name of that column.
    lead: Option<&'static str>,
    widths: Vec<u16>,
    begun: bool,
}

impl Rows {
    pub(super) fn new(width: Width) -> Self {
        Self { width, lead: None, widths: Vec::new(), begun: false }
    }

    /// With a first column of that name.
    pub(super) fn led_by(width: Width, lead: &'static str) -> Self {
        Self { lead: Some(lead), ..Self::new(width) }
    }

    /// The next portion: a row for each offer, all with `lead` before them. Empty when there is nothing to show.
    pub(super) fn portion(&mut self, lead: &str, services: &[Service]) -> String {
        let rows: Vec<Vec<String>> = services
            .iter()
            .flat_map(|service| cells(service, self.width))
            .map(|row| self.led(lead, row))
            .collect();
        if rows.is_empty() && self.begun {
            return String::new();
        }
        let header = match self.width {
            Width::Plain => PLAIN.to_vec(),
            Width::Wide => [&PLAIN[..], &MORE].concat(),
        };
        let header = self.lead.into_iter().chain(header);
        let mut table = if std::mem::replace(&mut self.begun, true) {
            Table::headless()
        } else {
            Table::with_header(header)
        };
        rows.into_iter().for_each(|row| table.add(row));
        table.align(&mut self.widths);
        table.to_string()
    }

    fn led(&self, lead: &str, row: Vec<String>) -> Vec<String> {
        self.lead.map(|_| lead.to_owned()).into_iter().chain(row).collect()
    }
}

/// The rows of one service, without what stands before them.
pub(super) fn cells(service: &Service, width: Width) -> Vec<Vec<String>> {
    if service.offers.is_empty() {
        let mut row = vec![String::new(); PLAIN.len() + if width == Width::Wide { MORE.len() } else { 0 }];
        row[0].clone_from(&service.name);
        row[5] = "0/0".to_owned();
        return vec![row];
    }
    service.offers.iter().map(|offer| row(&service.name, offer, width)).collect()
}

fn row(name: &str, offer: &Offer, width: Width) -> Vec<String> {
    let mut row = vec![
        name.to_owned(),
        offer.cluster.clone(),
        offer.region.clone(),
        list(&offer.zones),
        list(&offer.ports),
        format!("{}/{}", offer.healthy, offer.total),
        offer.origin.clone(),
        seconds(offer.stale_for),
    ];
    if width == Width::Wide {
        row.extend([list(&offer.exported_to), list(&offer.identities)]);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::tests::service;
    use super::*;

    #[test]
    fn a_row_is_an_offer() {
        let idle = Service { name: "idle.shop".into(), offers: vec![] };
        let expected = "\
SERVICE        CLUSTER  REGION    ZONES      PORTS    HEALTHY  ORIGIN    STALE
payments.shop  iad      us-iad-1  AD-1,AD-2  80/http  2/3      local     -
payments.shop  phx      us-phx-1  AD-1,AD-2  80/http  2/3      imported  1m 5s
idle.shop      -        -         -          -        0/0      -         -";
        assert_eq!(Rows::new(Width::Plain).portion("", &[service("payments.shop"), idle]), expected);
    }

    #[test]
    fn the_header_comes_once_and_portions_line_up() {
        let mut rows = Rows::new(Width::Plain);
        assert!(rows.portion("", &[service("payments.shop")]).starts_with("SERVICE        CLUSTER"));
        assert!(rows.portion("", &[service("a.b")]).starts_with("a.b            iad"));
        assert_eq!(rows.portion("", &[]), "");
        assert_eq!(Rows::new(Width::Plain).portion("", &[]).lines().count(), 1, "nothing is a header");
    }

    #[test]
    fn a_wide_table_says_who_and_to_whom() {
        let mut service = service("a.b");
        service.offers[0].exported_to = vec!["*".into()];
        service.offers[0].identities = vec!["spiffe://iad.mesh/ns/shop/sa/a".into()];
        let text = Rows::new(Width::Wide).portion("", &[service]);
        assert!(text.contains("STALE  EXPORTED TO  IDENTITIES"), "{text}");
        assert!(text.contains("-      *            spiffe://iad.mesh/ns/shop/sa/a"), "{text}");
    }
}
