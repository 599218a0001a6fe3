//! The row of a workload, and what makes one acceptable.

use causeway_model::{Health, Locality, PortSet, ServiceName, SpiffeId, WorkloadId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A service that a workload serves, as an endpoint of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedService {
    /// The service.
    pub name: ServiceName,
    /// The ports it serves.
    pub ports: PortSet,
    /// Whether it takes new requests for that service.
    pub health: Health,
}

/// What one gateway knows of one workload that is attached to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The workload; new at every start of its process.
    pub workload: WorkloadId,
    /// Who it is.
    pub identity: SpiffeId,
    /// What it serves, each service once; at most [`Row::MAX_SERVICES`].
    pub services: Vec<ServedService>,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of the requests among the endpoints of a service; no unit.
    pub weight: u16,
    /// Its direct addresses, best first; at most [`Row::MAX_OVERLAY`].
    pub overlay: Vec<SocketAddr>,
    /// The release that it runs; at most [`Row::MAX_RELEASE`] bytes.
    pub release: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its newest SVID that this gateway knows of; zero when unknown.
    pub svid_key: [u8; 32],
    /// The same of those before, whose connections may still stand, the newest first; at most [`Row::MAX_OLDER_KEYS`].
    pub older_keys: Box<[[u8; 32]]>,
    /// The owner's version at which this row last changed. The owning gateway sets it; what a caller of
    /// [`Presence::handle_attach`](crate::Presence::handle_attach) gives is not looked at.
    pub seq: u64,
    /// Whether the owner has a control connection to it. The owning gateway sets it, like `seq`.
    pub attached: bool,
}

/// Why a row was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// More services than a workload may serve.
    #[error(
        "workload {workload} registers {count} services: at most 64 are possible; split it into several workloads"
    )]
    TooManyServices {
        /// The workload.
        workload: WorkloadId,
        /// How many it gave.
        count: usize,
    },
    /// A service given twice.
    #[error("workload {workload} registers service {name} twice: name it once, with all its ports")]
    DuplicateService {
        /// The workload.
        workload: WorkloadId,
        /// The service.
        name: ServiceName,
    },
    /// More direct addresses than a workload may have.
    #[error("workload {workload} registers {count} direct addresses: give the best 8")]
    TooManyAddresses {
        /// The workload.
        workload: WorkloadId,
        /// How many it gave.
        count: usize,
    },
    /// A direct address that nobody can send to.
    #[error(
        "workload {workload} registers direct address {address}, which cannot be sent to: give a unicast address and a port"
    )]
    BadAddress {
        /// The workload.
        workload: WorkloadId,
        /// The address.
        address: SocketAddr,
    },
    /// A text that is too long or holds control characters.
    #[error(
        "the {what} of workload {workload} is {len} bytes long or has control characters: use at most {max} plain bytes"
    )]
    BadText {
        /// Which text: release, region or zone.
        what: &'static str,
        /// The workload.
        workload: WorkloadId,
        /// Its length in bytes.
        len: usize,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// More older keys than are kept.
    #[error("workload {workload} has {count} keys of older SVIDs: 3 are kept")]
    TooManyKeys {
        /// The workload.
        workload: WorkloadId,
        /// How many it gave.
        count: usize,
    },
    /// A row that is too large as a whole.
    #[error(
        "the row of workload {workload} takes {len} bytes, of at most 16384: register fewer services or ports"
    )]
    TooLarge {
        /// The workload.
        workload: WorkloadId,
        /// Its size in bytes.
        len: usize,
    },
    /// Another identity has that workload id.
    #[error("workload id {workload} belongs to another identity than {identity}: start again with a new id")]
    TakenId {
        /// The workload.
        workload: WorkloadId,
        /// The identity that asks for it.
        identity: SpiffeId,
    },
    /// This gateway owns as many rows as it may.
    #[error(
        "workload {workload} cannot be attached: this gateway holds {limit} workloads already; attach to another gateway or add one"
    )]
    TooManyRows {
        /// The workload.
        workload: WorkloadId,
        /// The limit.
        limit: usize,
    },
}

impl RowError {
    /// A stable word for logs, metrics and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyServices { .. } => "too_many_services",
            Self::DuplicateService { .. } => "duplicate_service",
            Self::TooManyAddresses { .. } => "too_many_addresses",
            Self::BadAddress { .. } => "bad_address",
            Self::BadText { .. } => "bad_text",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::TooLarge { .. } => "row_too_large",
            Self::TakenId { .. } => "workload_id_taken",
            Self::TooManyRows { .. } => "too_many_rows",
        }
    }
}

impl Row {
    /// The most services in a row.
    pub const MAX_SERVICES: usize = 64;
    /// The most direct addresses in a row.
    pub const MAX_OVERLAY: usize = 8;
    /// The most keys of older SVIDs in a row: an SVID is renewed after two thirds of its life, so two are good at a time unless a
    /// rotation of roots, or the sidecar itself, renews more often.
    pub const MAX_OLDER_KEYS: usize = 3;
    /// The longest release, in bytes.
    pub const MAX_RELEASE: usize = 64;
    /// The largest row, in bytes as [`Row::encoded_len`] counts them.
    pub const MAX_ENCODED: usize = 16 * 1024;

    /// Checks the limits of a row.
    ///
    /// # Errors
    /// The first limit that it breaks.
    pub fn check(&self) -> Result<(), RowError> {
        let workload = self.workload;
        if self.services.len() > Self::MAX_SERVICES {
            return Err(RowError::TooManyServices { workload, count: self.services.len() });
        }
        if self.overlay.len() > Self::MAX_OVERLAY {
            return Err(RowError::TooManyAddresses { workload, count: self.overlay.len() });
        }
        if self.older_keys.len() > Self::MAX_OLDER_KEYS {
            return Err(RowError::TooManyKeys { workload, count: self.older_keys.len() });
        }
        if let Some(&address) = self.overlay.iter().find(|address| !can_be_sent_to(address)) {
            return Err(RowError::BadAddress { workload, address });
        }
        self.check_text("release", &self.release, Self::MAX_RELEASE)?;
        self.check_text("region", &self.locality.region, Locality::MAX_LEN)?;
        self.check_text("zone", &self.locality.zone, Locality::MAX_LEN)?;
        let mut names = BTreeSet::new();
        if let Some(twice) = self.services.iter().find(|service| !names.insert(&service.name)) {
            return Err(RowError::DuplicateService { workload, name: twice.name.clone() });
        }
        match self.encoded_len() {
            len if len > Self::MAX_ENCODED => Err(RowError::TooLarge { workload, len }),
            _ => Ok(()),
        }
    }

    fn check_text(&self, what: &'static str, text: &str, max: usize) -> Result<(), RowError> {
        if text.len() > max || text.chars().any(char::is_control) {
            return Err(RowError::BadText { what, workload: self.workload, len: text.len(), max });
        }
        Ok(())
    }

    /// An upper bound of this row's size on the wire, in bytes, where an integer takes at most 9, and of the sizes that it may grow
    /// to while its workload renews its SVID. The encoding is not this crate's: the store's golden files hold the two together.
    pub fn encoded_len(&self) -> usize {
        const INTEGER: usize = 9;
        const SCHEME: usize = "spiffe://".len();
        const PORT: usize = 8;
        const ADDRESS: usize = 32;
        let text = |len: usize| INTEGER + len;
        let name =
            |name: &ServiceName| text(name.service().as_str().len() + 1 + name.namespace().as_str().len());
        let services: usize = self
            .services
            .iter()
            .map(|service| name(&service.name) + 2 * INTEGER + PORT * service.ports.iter().count())
            .sum();
        let identity = SCHEME + self.identity.trust_domain().as_str().len() + self.identity.path().len();
        let texts = text(identity)
            + text(self.locality.region.len())
            + text(self.locality.zone.len())
            + text(self.release.len());
        // as many as it may come to have: it gets further ones after it was checked
        let keys = self.svid_key.len() * (1 + Self::MAX_OLDER_KEYS) + INTEGER;
        // workload, weight, seq, attached, and the lengths of the two other lists
        texts + services + keys + ADDRESS * self.overlay.len() + 6 * INTEGER
    }

    /// The service of that name, if the workload serves it.
    pub fn service(&self, name: &ServiceName) -> Option<&ServedService> {
        self.services.iter().find(|service| service.name == *name)
    }

    /// Whether `other` says the same of the workload as an endpoint; who says it, when, and which keys it has does not count.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.differs_only_in_services(other) && self.services == other.services
    }

    /// Whether `other` says the same of its keys.
    pub(crate) fn has_the_same_keys(&self, other: &Self) -> bool {
        self.svid_key == other.svid_key && self.older_keys == other.older_keys
    }

    /// The keys of its SVIDs, as far as they are known, the newest first.
    pub fn svid_keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.svid_key).chain(&self.older_keys).filter(|key| **key != [0; 32])
    }

    /// Counts `key` as that of its newest SVID.
    pub(crate) fn renew(&mut self, key: [u8; 32]) {
        let before = Self { svid_key: key, older_keys: Box::default(), ..self.clone() };
        let after = std::mem::replace(self, before);
        self.keep_keys_of(&after);
    }

    /// Takes the keys of `other`, a row of the same instance, as older ones.
    pub(crate) fn keep_keys_of(&mut self, other: &Self) {
        let mut keys: Vec<[u8; 32]> = Vec::new();
        for key in self.svid_keys().chain(other.svid_keys()) {
            if !keys.contains(key) && keys.len() <= Self::MAX_OLDER_KEYS {
                keys.push(*key);
            }
        }
        let mut keys = keys.into_iter();
        self.svid_key = keys.next().unwrap_or_default();
        self.older_keys = keys.collect();
    }

    /// Whether everything but the services is the same in `other`.
    pub(crate) fn differs_only_in_services(&self, other: &Self) -> bool {
        self.workload == other.workload
            && self.identity == other.identity
            && self.locality == other.locality
            && self.weight == other.weight
            && self.overlay == other.overlay
            && self.release == other.release
    }
}

fn can_be_sent_to(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use causeway_model::{Protocol, ServicePort};

    pub(crate) fn row(workload: u64, services: &[&str]) -> Row {
        let port = ServicePort { port: 80, protocol: Protocol::Http };
        let served = |name: &&str| ServedService {
            name: name.parse().unwrap(),
            ports: PortSet::try_from(vec![port]).unwrap(),
            health: Health::Healthy,
        };
        Row {
            workload: WorkloadId(workload),
            identity: "spiffe://iad.mesh/ns/shop/sa/payments".parse().unwrap(),
            services: services.iter().map(served).collect(),
            locality: Locality { region: "us-ashburn-1".into(), zone: "AD-1".into() },
            weight: 100,
            overlay: vec!["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()],
            release: "0.1.0".into(),
            svid_key: [0; 32],
            older_keys: Box::default(),
            seq: 0,
            attached: false,
        }
    }

    #[test]
    fn each_limit_has_its_reason() {
        let good = row(1, &["a.b", "c.d"]);
        assert_eq!(good.check(), Ok(()));
        let spoil = |f: fn(&mut Row)| {
            let mut row = good.clone();
            f(&mut row);
            row.check().unwrap_err().reason()
        };
        let many = |row: &mut Row| {
            let service = row.services[0].clone();
            row.services = vec![service; 65];
        };
        assert_eq!(spoil(many), "too_many_services");
        assert_eq!(spoil(|row| row.services.push(row.services[0].clone())), "duplicate_service");
        assert_eq!(spoil(|row| row.overlay = vec![row.overlay[0]; 9]), "too_many_addresses");
        assert_eq!(spoil(|row| row.overlay[0].set_port(0)), "bad_address");
        assert_eq!(spoil(|row| row.overlay[0].set_ip([224, 0, 0, 1].into())), "bad_address");
        assert_eq!(spoil(|row| row.release = "x".repeat(65)), "bad_text");
        assert_eq!(spoil(|row| row.release = "a\nb".into()), "bad_text");
        assert_eq!(spoil(|row| row.locality.zone = "x".repeat(129)), "bad_text");
    }

    #[test]
    fn a_row_that_is_too_large_as_a_whole_is_refused() {
        let mut large = row(1, &[]);
        let ports = (1..=64).map(|port| ServicePort { port, protocol: Protocol::Grpc }).collect::<Vec<_>>();
        for i in 0..64 {
            let name = format!("{}{i}.{}", "s".repeat(60), "n".repeat(63)).parse().unwrap();
            let ports = PortSet::try_from(ports.clone()).unwrap();
            large.services.push(ServedService { name, ports, health: Health::Healthy });
        }
        assert_eq!(large.check().unwrap_err().reason(), "row_too_large");
    }

    /// A row that is as large as a row may be.
    pub(crate) fn largest(workload: u64) -> Row {
        let room = |row: &Row| Row::MAX_ENCODED - row.encoded_len();
        let locality = Locality { region: String::new(), zone: String::new() };
        let mut large = Row { release: String::new(), locality, ..row(workload, &[]) };
        let port = |port| ServicePort { port, protocol: Protocol::Grpc };
        let ports = PortSet::try_from((1..=25).map(port).collect::<Vec<_>>()).unwrap();
        while room(&large) > Row::MAX_RELEASE + 2 * Locality::MAX_LEN {
            let name = format!("{}{:02}.n", "s".repeat(40), large.services.len()).parse().unwrap();
            large.services.push(ServedService { name, ports: ports.clone(), health: Health::Healthy });
        }
        large.release = "r".repeat(room(&large).min(Row::MAX_RELEASE));
        large.locality.region = "r".repeat(room(&large).min(Locality::MAX_LEN));
        large.locality.zone = "z".repeat(room(&large));
        large
    }

    #[test]
    fn a_row_that_is_as_large_as_may_be_stays_good_while_its_workload_renews() {
        let mut row = largest(1);
        assert_eq!(row.encoded_len(), Row::MAX_ENCODED);
        for key in 1..=5 {
            row.renew([key; 32]);
            assert_eq!((row.check(), row.encoded_len()), (Ok(()), Row::MAX_ENCODED));
        }
        assert_eq!(row.svid_keys().count(), 1 + Row::MAX_OLDER_KEYS);
    }
}
