//! Names that many rows share, kept once.
//!
//! Each decoded row brings copies of its own. Thousands of workloads have one identity and serve one service, so the copies are
//! dropped for the first one seen. That saves memory and nothing depends on it: what was not seen for long is forgotten.

use crate::Row;
use causeway_model::{ServiceName, SpiffeId};
use std::collections::HashSet;
use std::hash::Hash;

/// The most names of a kind in one generation; there are two.
const GENERATION: usize = 16_384;

/// The names seen lately.
#[derive(Debug, Default)]
pub(crate) struct Names {
    identities: Recent<SpiffeId>,
    services: Recent<ServiceName>,
}

impl Names {
    /// Replaces the names in `row` by equal ones that other rows have, and gives back memory that it does not use.
    pub(crate) fn share(&mut self, row: &mut Row) {
        self.identities.share(&mut row.identity);
        row.services.iter_mut().for_each(|service| self.services.share(&mut service.name));
        row.services.shrink_to_fit();
        row.overlay.shrink_to_fit();
        row.release.shrink_to_fit();
        row.locality.region.shrink_to_fit();
        row.locality.zone.shrink_to_fit();
    }
}

/// Values seen lately, in two generations: when the younger is full the older is dropped. Only looked up, never iterated, so its
/// order decides nothing.
#[derive(Debug)]
struct Recent<T> {
    young: HashSet<T>,
    old: HashSet<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { young: HashSet::new(), old: HashSet::new() }
    }
}

impl<T: Clone + Eq + Hash> Recent<T> {
    fn share(&mut self, value: &mut T) {
        if let Some(known) = self.young.get(value) {
            *value = known.clone();
            return;
        }
        if let Some(known) = self.old.take(value) {
            *value = known;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    #[test]
    fn equal_names_become_one_and_what_is_kept_is_bounded() {
        let mut names = Names::default();
        let (mut a, mut b) = (row(1, &["a.b"]), row(2, &["a.b"]));
        let text = |row: &Row| row.identity.path().as_ptr();
        let service = |row: &Row| row.services[0].name.service().as_str().as_ptr();
        assert_ne!((text(&a), service(&a)), (text(&b), service(&b)));
        names.share(&mut a);
        names.share(&mut b);
        assert_eq!((text(&a), service(&a)), (text(&b), service(&b)));

        let mut numbers = Recent::default();
        (0..5 * GENERATION).for_each(|mut number| numbers.share(&mut number));
        assert!(numbers.young.len() + numbers.old.len() <= 2 * GENERATION);
        let (mut again, first) = (4 * GENERATION - 1, numbers.old.len());
        numbers.share(&mut again);
        assert!(numbers.young.contains(&again) && numbers.old.len() <= first, "what is used stays young");
    }
}
