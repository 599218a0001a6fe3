//! Pages of services: the first ones, or all of them as they come.

use super::rows::Rows;
use super::{Order, table_of, word};
use crate::api::{Api, Request};
use crate::failure::Failure;
use crate::output::{self, ListFormat, Output};
use anyhow::Result;
use causeway_gateway::admin::api::{Service, ServicePage, SortBy};
use causeway_model::ServiceName;
use std::collections::BTreeMap;

/// The largest page that the admin API gives.
const LARGEST_PAGE: u16 = 1000;
/// The most services that are put in order here.
const MAX_SORTED: usize = 100_000;

/// Which services are listed, and how.
pub(super) struct List<'a> {
    pub(super) api: &'a Api,
    pub(super) request: Request,
    pub(super) after: Option<&'a ServiceName>,
    pub(super) order: Order,
    pub(super) format: ListFormat,
}

impl List<'_> {
    /// Shows the first `limit` services.
    pub(super) fn first(&self, limit: u16) -> Result<()> {
        let sort = word(&self.order).filter(|_| self.order != Order::Name);
        let request = self.request.clone().query("sort", sort.as_deref());
        let mut page = page(self.api, &request, limit, self.after.map(ToString::to_string).as_deref())?;
        // a page that looked at many services without finding enough has a next one
        while let Some((room, next)) = room(&page, limit) {
            let more = self::page(self.api, &request, room, Some(&next))?;
            page.took_us += more.took_us;
            page.looked_at += more.looked_at;
            page.services.extend(more.services);
            page.next = more.next.filter(|after| leads_on(&next, after));
        }
        self.show(&page)?;
        self.tell_more(&page);
        Ok(())
    }

    /// Shows every service, each page as it comes: no more than one is held.
    pub(super) fn all(&self) -> Result<()> {
        let mut shower = Shower::new(self.format);
        let mut after = self.after.map(ToString::to_string);
        loop {
            let page = page(self.api, &self.request, LARGEST_PAGE, after.as_deref())?;
            shower.show(&page.services)?;
            match page.next {
                // a page that does not lead on would be asked for again and again
                Some(next) if after.as_ref().is_none_or(|after| leads_on(after, &next)) => after = Some(next),
                _ => return shower.finish(),
            }
        }
    }

    /// Shows every service in another order than by name, which needs all of them here.
    pub(super) fn all_sorted(&self) -> Result<()> {
        let sort = SortBy::from(self.order);
        let mut sorted: BTreeMap<_, Service> = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = page(self.api, &self.request, LARGEST_PAGE, after.as_deref())?;
            sorted.extend(page.services.into_iter().map(|service| (sort.key(&service), service)));
            if sorted.len() > MAX_SORTED {
                return Err(too_many(&word(&self.order).unwrap_or_default()).into());
            }
            match page.next {
                Some(next) if after.as_ref().is_none_or(|after| leads_on(after, &next)) => after = Some(next),
                _ => break,
            }
        }
        let mut shower = Shower::new(self.format);
        for service in sorted.into_values() {
            shower.hold(service)?;
        }
        shower.finish()
    }

    fn show(&self, page: &ServicePage) -> Result<()> {
        match self.format {
            ListFormat::Json => Output { format: output::Format::Json }.show(page, |_| String::new()),
            ListFormat::Yaml => Output { format: output::Format::Yaml }.show(page, |_| String::new()),
            format => {
                let mut shower = Shower::new(format);
                shower.show(&page.services)?;
                shower.finish()
            }
        }
    }

    /// What the page itself does not say, for people.
    fn tell_more(&self, page: &ServicePage) {
        let shown = page.services.len();
        match (page.next.as_deref(), page.matched) {
            (Some(next), _) => output::note(&format!(
                "# there are more than {shown}; --all shows every one, --after {} the next ones",
                output::printable(next)
            )),
            (None, Some(all)) if all > shown as u64 => {
                output::note(&format!("# there are {all}; --limit N shows more, --all every one"));
            }
            _ => {}
        }
        if self.format == ListFormat::Wide {
            output::note(&took(page));
        }
    }
}

fn took(page: &ServicePage) -> String {
    let (whole, rest) = (page.took_us / 1000, page.took_us % 1000 / 100);
    let node = output::printable(&page.node);
    format!("# gateway {node} at revision {}: {whole}.{rest} ms, {} looked at", page.revision, page.looked_at)
}

fn too_many(order: &str) -> Failure {
    Failure::new("too_many_services", format!("cannot put all services in the order of --sort {order}"))
        .cause(format!("there are more than {MAX_SORTED}, and all of them would have to be held in memory"))
        .fix("ask for fewer: --namespace, --name, --cluster, --region")
        .fix("leave out --sort: by name there is no limit")
}

fn page(api: &Api, request: &Request, limit: u16, after: Option<&str>) -> Result<ServicePage> {
    api.send(&request.clone().query("limit", Some(&limit.to_string())).query("after", after))
}

/// How many services still fit after a page, and where the next one begins; nothing when it is full, or the last.
fn room(page: &ServicePage, limit: u16) -> Option<(u16, String)> {
    let shown = u16::try_from(page.services.len()).unwrap_or(u16::MAX);
    let room = limit.checked_sub(shown).filter(|room| *room > 0)?;
    Some((room, page.next.clone()?))
}

/// Whether the page after `next` comes after the page after `after`.
fn leads_on(after: &str, next: &str) -> bool {
    matches!((after.parse::<ServiceName>(), next.parse::<ServiceName>()), (Ok(after), Ok(next)) if after < next)
}

/// Writes services as they come.
struct Shower {
    format: ListFormat,
    rows: Option<Rows>,
    held: Vec<Service>,
}

impl Shower {
    fn new(format: ListFormat) -> Self {
        Self { format, rows: table_of(format).map(Rows::new), held: Vec::new() }
    }

    fn show(&mut self, services: &[Service]) -> Result<()> {
        if let Some(rows) = &mut self.rows {
            return if services.is_empty() { Ok(()) } else { output::say(&rows.portion("", services)) };
        }
        for service in services {
            match self.format {
                ListFormat::Yaml => output::say_document(service)?,
                ListFormat::Name => output::say(&output::printable(&service.name))?,
                _ => output::say_line(service)?,
            }
        }
        Ok(())
    }

    /// Shows `service` together with others.
    fn hold(&mut self, service: Service) -> Result<()> {
        self.held.push(service);
        if self.held.len() < usize::from(LARGEST_PAGE) {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.show(&held)
    }

    /// Shows what is left; a table without rows has its header.
    fn finish(mut self) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        self.show(&held)?;
        match &mut self.rows {
            Some(rows) => output::say(&rows.portion("", &[])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::service;
    use super::*;

    fn page(services: usize, next: Option<&str>) -> ServicePage {
        ServicePage {
            node: "01".into(),
            revision: 7,
            took_us: 1290,
            looked_at: 101,
            matched: None,
            services: vec![service("a.b"); services],
            next: next.map(str::to_owned),
        }
    }

    #[test]
    fn a_page_with_room_and_a_next_one_is_filled_up() {
        assert_eq!(room(&page(3, Some("x.y")), 5), Some((2, "x.y".into())));
        assert_eq!((room(&page(5, Some("x.y")), 5), room(&page(3, None), 5)), (None, None));
    }

    #[test]
    fn pages_lead_on_in_the_order_of_namespaces() {
        assert!(leads_on("z.a", "a.b") && leads_on("a.b", "b.b"));
        for next in ["a.b", "z.a", "nonsense"] {
            assert!(!leads_on("a.b", next), "{next}");
        }
    }

    #[test]
    fn the_gateways_time_is_told() {
        assert_eq!(took(&page(0, None)), "# gateway 01 at revision 7: 1.2 ms, 101 looked at");
    }
}
