//! Accepted offers of one peer, by handle and by name.

use crate::packed::Packed;
use causeway_model::{ServiceHandle, ServiceName};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct ByHandle(Arc<Packed>);

/// In order of names; those of one name in order of their handles.
#[derive(Clone, Debug)]
struct ByName(Arc<Packed>);

macro_rules! keyed {
    ($name:ident, $key:ty, $get:ident) => {
        impl Borrow<$key> for $name {
            fn borrow(&self) -> &$key {
                self.0.$get()
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.$get().cmp(other.0.$get())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}
    };
}

keyed!(ByHandle, ServiceHandle, handle);
keyed!(ByName, [u8], bytes);

/// A set of offers with one for each handle. An entry is a pointer in each of two trees, so that sets of equal offers share
/// them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers {
    by_handle: BTreeSet<ByHandle>,
    by_name: BTreeSet<ByName>,
    names: usize,
}

impl Offers {
    /// How many offers.
    pub(crate) fn len(&self) -> usize {
        self.by_handle.len()
    }

    /// How many names they have.
    pub(crate) fn names(&self) -> usize {
        self.names
    }

    pub(crate) fn get(&self, handle: ServiceHandle) -> Option<&Arc<Packed>> {
        self.by_handle.get(&handle).map(|entry| &entry.0)
    }

    /// The offers of that name, in order of their handles.
    pub(crate) fn named(&self, name: &ServiceName) -> impl Iterator<Item = &Arc<Packed>> {
        let key = Packed::key(name);
        let from = self.by_name.range::<[u8], _>((Bound::Included(key.as_slice()), Bound::Unbounded));
        from.map(|entry| &entry.0).take_while(move |packed| packed.bytes().starts_with(&key))
    }

    /// All in order of their handles.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Packed>> {
        self.by_handle.iter().map(|entry| &entry.0)
    }

    /// All in order of their names, after `name` if there is one.
    pub(crate) fn after(&self, name: Option<&ServiceName>) -> impl Iterator<Item = &Arc<Packed>> {
        let key = name.map(|name| {
            let mut key = Packed::key(name);
            // above all keys that begin with this one, which go on after the 0 that ends a name
            key.pop();
            key.push(1);
            key
        });
        let start = key.as_deref().map_or(Bound::Unbounded, Bound::Included);
        self.by_name.range::<[u8], _>((start, Bound::Unbounded)).map(|entry| &entry.0)
    }

    /// The greatest handle.
    pub(crate) fn last(&self) -> Option<ServiceHandle> {
        self.by_handle.last().map(|entry| *entry.0.handle())
    }

    /// Whether both are the same offers.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Packed>, &Arc<Packed>)| {
            Arc::ptr_eq(a, b) || (a.handle() == b.handle() && a.is_same(b))
        };
        std::ptr::eq(self, other) || (self.len() == other.len() && self.iter().zip(other.iter()).all(same))
    }

    /// Adds an offer of a handle that is not here.
    pub(crate) fn insert(&mut self, packed: Arc<Packed>) {
        self.names += usize::from(!self.has_name_of(&packed));
        self.by_name.insert(ByName(Arc::clone(&packed)));
        self.by_handle.insert(ByHandle(packed));
    }

    pub(crate) fn remove(&mut self, handle: ServiceHandle) -> Option<Arc<Packed>> {
        let ByHandle(packed) = self.by_handle.take(&handle)?;
        self.by_name.remove(packed.bytes());
        self.names -= usize::from(!self.has_name_of(&packed));
        Some(packed)
    }

    /// Lets an offer that is here share the memory of an equal one.
    pub(crate) fn share(&mut self, equal: &Arc<Packed>) {
        self.by_handle.replace(ByHandle(Arc::clone(equal)));
        self.by_name.replace(ByName(Arc::clone(equal)));
    }

    /// Whether an offer has that name.
    pub(crate) fn has_name_of(&self, packed: &Packed) -> bool {
        let from = (Bound::Included(packed.name_bytes()), Bound::Unbounded);
        self.by_name.range::<[u8], _>(from).next().is_some_and(|entry| entry.0.shares_name(packed))
    }
}
