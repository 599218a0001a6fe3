//! Virtual addresses.

use crate::catalog::Effect;
use crate::{AllocateVips, Catalog, Event, MAX_VIP_BATCH, Outcome, Refusal};
use causeway_model::{Vip, VipName};

impl Catalog {
    /// Unlike other commands this one may be carried out in part: each name has a result of its own.
    pub(crate) fn allocate_vips(&mut self, c: &AllocateVips) -> Result<Effect, Refusal> {
        self.own()?;
        if c.names.is_empty() || c.names.len() > MAX_VIP_BATCH {
            let (count, rule) = (c.names.len().to_string(), format!("name 1 to {MAX_VIP_BATCH} at a time"));
            return Err(Refusal::invalid("number of names", &count, &rule));
        }
        let before = self.vips.len();
        let vips = c.names.iter().map(|name| self.allocate_vip(name)).collect();
        let events = if self.vips.len() > before { vec![Event::VipsAllocated] } else { Vec::new() };
        Ok((Outcome::Vips { vips }, events))
    }

    fn allocate_vip(&mut self, name: &VipName) -> Result<Vip, Refusal> {
        if let Some(vip) = self.vips.vip(name) {
            return Ok(vip);
        }
        if let Some(cluster) = &name.cluster
            && *cluster != self.own()?.name
            && !self.links.contains_key(cluster)
        {
            return Err(Refusal::LinkUnknown { cluster: cluster.clone() });
        }
        self.vips.allocate(name).ok_or_else(|| Refusal::VipExhausted { name: name.clone() })
    }
}
