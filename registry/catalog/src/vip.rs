//! Which virtual address each name has.

use crate::bound::MAX_VIPS;
use causeway_model::{ParseError, Vip, VipName};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many numbers lie in one page, as a power of two.
const PAGE_BITS: u32 = 14;

/// Numbers and the names that have them: a hash table with open addressing, in which a number is a place. As no name ever loses its
/// number, a name that is there is found before the first free place, and one map answers both ways.
///
/// Every replica clones its catalog for each command. So the names lie in pages which clones share, and a command copies only those
/// that it writes to: with 1,000,000 names a page has about 1,000 of them. A name takes about 80 bytes (20 in its page, which is three
/// quarters full, and some 50 for a text of usual length with its counts), so the most that there can be take 80 MB; 10,000 take 1 MB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<(Vip, String)>")]
pub(crate) struct VipTable {
    pages: Arc<BTreeMap<u32, Arc<Page>>>,
    len: usize,
}

type Page = BTreeMap<Vip, Arc<str>>;

/// How many numbers and names there may be.
#[derive(Clone, Copy, Debug)]
struct Space {
    /// Numbers from 1 to this one.
    numbers: u32,
    names: usize,
}

/// Of the mesh.
const SPACE: Space = Space { numbers: Vip::MAX, names: MAX_VIPS };

/// Where the search for a name ended.
enum Place {
    Its(Vip),
    Free(Vip),
    Nowhere,
}

impl VipTable {
    /// How many names have a number.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of `name`, if it has one.
    pub(crate) fn vip(&self, name: &VipName) -> Option<Vip> {
        self.vip_in(SPACE, name)
    }

    /// The name that has the number `vip`, if there is one.
    pub(crate) fn name(&self, vip: Vip) -> Option<VipName> {
        self.text(vip)?.parse().ok()
    }

    /// The number of `name`, a new one if it has none; nothing when all are given out.
    pub(crate) fn allocate(&mut self, name: &VipName) -> Option<Vip> {
        self.allocate_in(SPACE, name)
    }

    fn vip_in(&self, space: Space, name: &VipName) -> Option<Vip> {
        match self.search(space, &name.to_string()) {
            Place::Its(vip) => Some(vip),
            Place::Free(_) | Place::Nowhere => None,
        }
    }

    fn allocate_in(&mut self, space: Space, name: &VipName) -> Option<Vip> {
        let text = name.to_string();
        match self.search(space, &text) {
            Place::Its(vip) => Some(vip),
            Place::Free(vip) if self.len < space.names => {
                self.insert(vip, text.into());
                Some(vip)
            }
            Place::Free(_) | Place::Nowhere => None,
        }
    }

    fn search(&self, space: Space, text: &str) -> Place {
        let mut number = home(space, text);
        for _ in 0..space.numbers {
            let Some(vip) = Vip::new(number) else { return Place::Nowhere };
            match self.text(vip) {
                None => return Place::Free(vip),
                Some(known) if known == text => return Place::Its(vip),
                Some(_) => number = number % space.numbers + 1,
            }
        }
        Place::Nowhere
    }

    fn text(&self, vip: Vip) -> Option<&str> {
        self.pages.get(&page_of(vip))?.get(&vip).map(AsRef::as_ref)
    }

    fn insert(&mut self, vip: Vip, text: Arc<str>) {
        let page = Arc::make_mut(&mut self.pages).entry(page_of(vip)).or_default();
        let before = Arc::make_mut(page).insert(vip, text);
        self.len += usize::from(before.is_none());
    }

    fn iter(&self) -> impl Iterator<Item = (Vip, &str)> {
        self.pages.values().flat_map(|page| page.iter()).map(|(&vip, text)| (vip, text.as_ref()))
    }
}

/// Where the search for `text` begins: the first 24 bits of its SHA-256 (FIPS 180-4), which every replica computes alike.
fn home(space: Space, text: &str) -> u32 {
    let hash = Sha256::digest(text);
    u32::from_be_bytes([0, hash[0], hash[1], hash[2]]) % space.numbers + 1
}

fn page_of(vip: Vip) -> u32 {
    vip.get() >> PAGE_BITS
}

/// In the order of the numbers.
impl Serialize for VipTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names = serializer.serialize_seq(Some(self.len))?;
        for name in self.iter() {
            names.serialize_element(&name)?;
        }
        names.end()
    }
}

impl TryFrom<Vec<(Vip, String)>> for VipTable {
    type Error = ParseError;

    fn try_from(names: Vec<(Vip, String)>) -> Result<Self, ParseError> {
        let mut table = Self::default();
        for (vip, text) in names {
            text.parse::<VipName>()?;
            table.insert(vip, text.into());
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: u32) -> VipName {
        format!("s{n}.shop").parse().unwrap()
    }

    #[test]
    fn a_number_is_that_of_the_hash_and_the_same_for_ever() {
        let mut table = VipTable::default();
        // what is written here is what every release has to answer: applications keep addresses
        for (name, ip) in [("payments.shop", "240.115.50.95"), ("payments.shop@phx", "240.168.247.110")] {
            let name: VipName = name.parse().unwrap();
            assert_eq!(table.vip(&name), None);
            let vip = table.allocate(&name).unwrap();
            assert_eq!(vip.to_string(), ip, "{name}");
            assert_eq!((table.allocate(&name), table.vip(&name)), (Some(vip), Some(vip)));
            assert_eq!(table.name(vip), Some(name));
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn names_whose_hashes_collide_have_numbers_of_their_own() {
        let mut at: BTreeMap<u32, VipName> = BTreeMap::new();
        let collision = (0..).find_map(|n| {
            let name = name(n);
            let other = at.insert(home(SPACE, &name.to_string()), name.clone())?;
            Some((other, name))
        });
        let (first, second) = collision.unwrap();
        let mut table = VipTable::default();
        let (a, b) = (table.allocate(&first).unwrap(), table.allocate(&second).unwrap());
        assert_eq!(b.get(), a.get() % Vip::MAX + 1);
        assert_eq!((table.vip(&first), table.vip(&second)), (Some(a), Some(b)));
        // whoever asks first has the number
        let mut turned = VipTable::default();
        assert_eq!((turned.allocate(&second), turned.allocate(&first)), (Some(a), Some(b)));
        assert_ne!(table, turned);
    }

    #[test]
    fn a_full_space_gives_nothing_and_keeps_what_it_gave() {
        let space = Space { numbers: 7, names: 7 };
        let mut table = VipTable::default();
        let given: Vec<Vip> = (0..7).map(|n| table.allocate_in(space, &name(n)).unwrap()).collect();
        let numbers: std::collections::BTreeSet<u32> = given.iter().map(|vip| vip.get()).collect();
        assert!(numbers.iter().eq(&[1, 2, 3, 4, 5, 6, 7]));
        assert_eq!((table.allocate_in(space, &name(7)), table.vip_in(space, &name(7))), (None, None));
        for (n, vip) in (0..).zip(given) {
            assert_eq!(table.allocate_in(space, &name(n)), Some(vip));
        }
        let few = Space { names: 2, ..SPACE };
        let mut table = VipTable::default();
        assert!(table.allocate_in(few, &name(1)).is_some() && table.allocate_in(few, &name(2)).is_some());
        assert!(table.allocate_in(few, &name(3)).is_none() && table.allocate_in(few, &name(2)).is_some());
    }

    #[test]
    fn what_is_stored_is_checked_when_it_is_read() {
        let read = |text: &str| serde_json::from_str::<VipTable>(text);
        assert_eq!(read("[]").unwrap(), VipTable::default());
        assert_eq!(read(r#"[[1,"a.b"],[2,"a.b@iad"]]"#).unwrap().len(), 2);
        assert!(read(r#"[[0,"a.b"]]"#).is_err() && read(r#"[[1,"a"]]"#).is_err());
    }

    #[test]
    fn clones_share_the_pages_that_neither_writes_to() {
        let mut table = VipTable::default();
        assert!((0..5_000).all(|n| table.allocate(&name(n)).is_some()));
        let before = table.clone();
        let vip = table.allocate(&name(9_999)).unwrap();
        let shared = |page: &u32| Arc::ptr_eq(&before.pages[page], &table.pages[page]);
        let copied: Vec<&u32> = before.pages.keys().filter(|page| !shared(page)).collect();
        assert_eq!(copied, [&page_of(vip)]);
        assert_eq!((before.len(), table.len()), (5_000, 5_001));
    }

    proptest! {
        #[test]
        fn every_name_has_one_number_whatever_is_asked_and_when_it_is_stored(
            asked in prop::collection::vec(0..40_u32, 0..80),
            numbers in 20..60_u32,
            stored in 0..80_usize,
        ) {
            let space = Space { numbers, names: 30 };
            let (mut table, mut other) = (VipTable::default(), VipTable::default());
            let mut given: BTreeMap<u32, Vip> = BTreeMap::new();
            for (step, n) in asked.into_iter().enumerate() {
                if step == stored {
                    other = serde_json::from_slice(&serde_json::to_vec(&other).unwrap()).unwrap();
                }
                let vip = table.allocate_in(space, &name(n));
                prop_assert_eq!(other.allocate_in(space, &name(n)), vip);
                match vip {
                    Some(vip) => prop_assert_eq!(*given.entry(n).or_insert(vip), vip),
                    None => prop_assert!(given.len() == 30.min(numbers as usize) && !given.contains_key(&n)),
                }
                prop_assert_eq!(table.len(), given.len());
            }
            for (n, vip) in &given {
                prop_assert_eq!(table.vip_in(space, &name(*n)), Some(*vip));
                prop_assert_eq!(table.name(*vip), Some(name(*n)));
            }
            prop_assert_eq!(table, other);
        }
    }
}
