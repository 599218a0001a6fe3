//! Epochs of keys.

use crate::catalog::{Effect, done};
use crate::{Bound, Catalog, ClusterState, DropKeys, Event, Refusal, RotateKeys};
use causeway_model::Epoch;
use std::collections::{BTreeMap, BTreeSet};

impl Catalog {
    pub(crate) fn rotate_keys(&mut self, c: &RotateKeys) -> Result<Effect, Refusal> {
        let cluster = self.cluster.as_mut().ok_or(Refusal::NotInitialised)?;
        if c.cid.is_none() && c.probe.is_none() {
            return Err(Refusal::invalid(
                "rotation",
                "no key",
                "give a key for connection IDs, for probes, or both",
            ));
        }
        c.cid.map_or(Ok(()), |(epoch, _)| check_new(&cluster.cid_keys, epoch))?;
        c.probe.map_or(Ok(()), |(epoch, _)| check_new(&cluster.probe_keys, epoch))?;
        cluster.cid_keys.extend(c.cid);
        cluster.probe_keys.extend(c.probe);
        Ok(done([Event::KeysChanged]))
    }

    pub(crate) fn drop_keys(&mut self, c: &DropKeys) -> Result<Effect, Refusal> {
        let cluster: &mut ClusterState = self.cluster.as_mut().ok_or(Refusal::NotInitialised)?;
        if c.cid.is_empty() && c.probe.is_empty() {
            return Err(Refusal::invalid("epochs", "none", "name the epochs to drop"));
        }
        check_old(&cluster.cid_keys, &c.cid)?;
        check_old(&cluster.probe_keys, &c.probe)?;
        cluster.cid_keys.retain(|epoch, _| !c.cid.contains(epoch));
        cluster.probe_keys.retain(|epoch, _| !c.probe.contains(epoch));
        Ok(done([Event::KeysChanged]))
    }
}

/// Refuses an epoch that is not newer than all others, that connection IDs could not tell from another, or for which
/// there is no room. The oldest is never pushed out: sidecars may still use it.
fn check_new<K>(keys: &BTreeMap<Epoch, K>, asked: Epoch) -> Result<(), Refusal> {
    if let Some((&newest, _)) = keys.last_key_value().filter(|(newest, _)| **newest >= asked) {
        return Err(Refusal::EpochNotNewer { newest, asked });
    }
    if let Some(&live) = keys.keys().find(|live| live.low_bits() == asked.low_bits()) {
        return Err(Refusal::EpochClash { live, asked });
    }
    Bound::Epochs.check(keys.len() + 1)
}

/// Refuses epochs of which there is no key, and the newest.
fn check_old<K>(keys: &BTreeMap<Epoch, K>, epochs: &BTreeSet<Epoch>) -> Result<(), Refusal> {
    if let Some(&epoch) = epochs.iter().find(|epoch| !keys.contains_key(epoch)) {
        return Err(Refusal::EpochUnknown { epoch });
    }
    match keys.last_key_value() {
        Some((&epoch, _)) if epochs.contains(&epoch) => Err(Refusal::EpochNewest { epoch }),
        _ => Ok(()),
    }
}
