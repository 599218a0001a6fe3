//! How the news of a watch are written.

use super::super::rows::{Rows, Width, cells};
use super::super::table_of;
use super::known::News;
use crate::output::{self, ListFormat};
use anyhow::Result;
use causeway_gateway::admin::api::{Service, ServiceEvent};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Rows are written together up to so many services.
const PORTION: usize = 500;
/// As wide as the longest word, so that rows that come before it line up.
const WORD: usize = "changed".len();

/// What stands for a state of a service in a format: equal for states that are written alike, but for what time alone changes.
pub(super) fn state_of(format: ListFormat) -> fn(&Service) -> u64 {
    match format {
        ListFormat::Table => |service| print(cells(&service.without_ages(), Width::Plain)),
        ListFormat::Wide => |service| print(cells(&service.without_ages(), Width::Wide)),
        ListFormat::Json | ListFormat::Yaml => |service| print(format!("{:?}", service.without_ages())),
        ListFormat::Name => |_| 0,
    }
}

fn print(state: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Where news go.
pub(super) struct Screen {
    format: ListFormat,
    rows: Option<Rows>,
    /// What exists, until there is a portion of it.
    held: Vec<Service>,
    synced: bool,
}

impl Screen {
    pub(super) fn new(format: ListFormat) -> Self {
        let rows = table_of(format).map(|width| Rows::led_by(width, "EVENT"));
        Self { format, rows, held: Vec::new(), synced: false }
    }

    /// Writes `news`; rows of what exists are held a little, so that their columns line up.
    pub(super) fn show(&mut self, news: News) -> Result<()> {
        match self.format {
            ListFormat::Table | ListFormat::Wide => output::say(&self.text(news)),
            ListFormat::Json => output::say_line(&event(news)),
            ListFormat::Yaml => output::say_document(&event(news)),
            ListFormat::Name => match news {
                News::Set(service) => output::say(&format!("+ {}", output::printable(&service.name))),
                News::Removed(name) => output::say(&format!("- {}", output::printable(&name))),
                News::Synced(_) => Ok(()),
            },
        }
    }

    /// Writes what is held.
    pub(super) fn flush(&mut self) -> Result<()> {
        output::say(&self.held())
    }

    fn text(&mut self, news: News) -> String {
        match news {
            News::Set(service) if !self.synced => {
                self.held.push(service);
                if self.held.len() < PORTION { String::new() } else { self.held() }
            }
            News::Set(service) => self.portion("changed", &[service]),
            News::Removed(name) => {
                let held = self.held();
                let gap = if held.is_empty() { "" } else { "\n" };
                format!("{held}{gap}{:WORD$}  {}", "removed", output::printable(&name))
            }
            News::Synced(_) => {
                self.synced = true;
                let held = std::mem::take(&mut self.held);
                self.portion("now", &held)
            }
        }
    }

    fn held(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { String::new() } else { self.portion("now", &held) }
    }

    fn portion(&mut self, word: &str, services: &[Service]) -> String {
        self.rows.as_mut().map(|rows| rows.portion(&format!("{word:WORD$}"), services)).unwrap_or_default()
    }
}

/// As the admin API says it.
fn event(news: News) -> ServiceEvent {
    match news {
        News::Set(service) => ServiceEvent::Set { service },
        News::Removed(name) => ServiceEvent::Removed { name },
        News::Synced(revision) => ServiceEvent::Synced { revision },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::service;
    use super::*;

    #[test]
    fn what_exists_is_one_table_and_changes_are_rows_below_it() {
        let mut screen = Screen::new(ListFormat::Table);
        assert_eq!(screen.text(News::Set(service("payments.shop"))), "");
        let expected = "\
EVENT    SERVICE        CLUSTER  REGION    ZONES      PORTS    HEALTHY  ORIGIN    STALE
now      payments.shop  iad      us-iad-1  AD-1,AD-2  80/http  2/3      local     -
now      payments.shop  phx      us-phx-1  AD-1,AD-2  80/http  2/3      imported  1m 5s";
        assert_eq!(screen.text(News::Synced(7)), expected);
        let changed = screen.text(News::Set(service("c.d")));
        assert!(changed.starts_with("changed  c.d            iad      us-iad-1"), "{changed}");
        assert_eq!(screen.text(News::Removed("c.d".into())), "removed  c.d");
    }

    #[test]
    fn a_long_first_table_comes_in_portions() {
        let mut screen = Screen::new(ListFormat::Table);
        let mut lines = 0;
        for index in 0..2 * PORTION + 1 {
            lines += screen.text(News::Set(service(&format!("s{index}.b")))).lines().count();
        }
        assert_eq!((lines, screen.held.len()), (1 + 4 * PORTION, 1));
        assert_eq!(screen.text(News::Synced(7)).lines().count(), 2);
    }

    #[test]
    fn what_is_shown_alike_is_one_state_and_ages_are_none() {
        let (mut stale, mut other) = (service("a.b"), service("a.b"));
        stale.offers[1].stale_for = Some(66);
        other.offers[0].identities = vec!["spiffe://iad.mesh/ns/shop/sa/a".into()];
        let of = |format: ListFormat| {
            [service("a.b"), stale.clone(), other.clone()].map(|service| state_of(format)(&service))
        };
        let [plain, aged, identity] = of(ListFormat::Table);
        assert!(plain == aged && plain == identity);
        let [plain, aged, identity] = of(ListFormat::Json);
        assert!(plain == aged && plain != identity);
    }
}
