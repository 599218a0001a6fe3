//! The hash by which both ends of a link compare what one of them exports.
//!
//! It finds accidents, not attacks: a peer that wants its own exports to be misread may simply misstate them. Both ends may be
//! of different releases, so the hash is defined here and over the values, whatever their encoding.

use causeway_model::{Protocol, ServiceHandle};
use causeway_wire::cid::mix;
use causeway_wire::view::ExportSummary;

/// The hash of `summary`, all of it.
pub(crate) fn hash(summary: &ExportSummary) -> u64 {
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    hash.text(summary.name.namespace().as_str());
    hash.text(summary.name.service().as_str());
    hash.number(summary.handle.0);
    hash.number(summary.ports.iter().count() as u64);
    for port in summary.ports.iter() {
        let protocol = match port.protocol {
            Protocol::Tcp => 1,
            Protocol::Udp => 2,
            Protocol::Http => 3,
            Protocol::Grpc => 4,
        };
        hash.number(u64::from(port.port) << 8 | protocol);
    }
    hash.number(summary.identities.len() as u64);
    for identity in &summary.identities {
        hash.text(identity.trust_domain().as_str());
        hash.text(identity.path());
    }
    hash.number(u64::from(summary.healthy) << 32 | u64::from(summary.total));
    hash.number(summary.localities.len() as u64);
    for (locality, count) in &summary.localities {
        hash.text(&locality.region);
        hash.text(&locality.zone);
        hash.number(u64::from(*count));
    }
    mix(hash.0)
}

/// What one offer adds to the digest of all: digests are sums, so that a change of one offer costs one addition.
pub(crate) fn term(handle: ServiceHandle, hash: u64) -> u64 {
    mix(mix(handle.0) ^ hash)
}

struct Hash(u64);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use causeway_model::Locality;

    fn summary() -> ExportSummary {
        ExportSummary {
            name: "pay.shop".parse().unwrap(),
            handle: ServiceHandle(7),
            ports: vec!["80/http".parse().unwrap()].try_into().unwrap(),
            identities: vec!["spiffe://phx.mesh/ns/shop/sa/web".parse().unwrap()],
            healthy: 1,
            total: 2,
            localities: vec![(Locality { region: "r".into(), zone: "z".into() }, 2)],
        }
    }

    #[test]
    fn every_field_counts() {
        let base = summary();
        let changed = [
            ExportSummary { name: "pay.shops".parse().unwrap(), ..base.clone() },
            ExportSummary { handle: ServiceHandle(8), ..base.clone() },
            ExportSummary { ports: vec!["80/tcp".parse().unwrap()].try_into().unwrap(), ..base.clone() },
            ExportSummary { identities: Vec::new(), ..base.clone() },
            ExportSummary { identities: vec![base.identities[0].clone(); 2], ..base.clone() },
            ExportSummary { healthy: 2, ..base.clone() },
            ExportSummary { total: 3, ..base.clone() },
            ExportSummary { localities: Vec::new(), ..base.clone() },
            ExportSummary {
                localities: vec![(Locality { region: "rz".into(), zone: String::new() }, 2)],
                ..base.clone()
            },
        ];
        let hashes: std::collections::BTreeSet<u64> = changed.iter().chain([&base]).map(hash).collect();
        assert_eq!(hashes.len(), changed.len() + 1);
        assert_eq!(hash(&base), 2_256_415_835_649_484_218, "peers of other releases compute it, too");
    }

    #[test]
    fn handle_and_content_count() {
        let (a, b) = (ServiceHandle(1), ServiceHandle(2));
        assert_ne!(term(a, 10), term(a, 11));
        assert_ne!(term(a, 10).wrapping_add(term(b, 20)), term(a, 20).wrapping_add(term(b, 10)));
    }
}
