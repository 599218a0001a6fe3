//! The records of our zones, written as an answer.

use super::{Owner, Ports, Zone, forward_name};
use crate::config::{DnsConfig, zone};
use crate::question::{Question, wire_len};
use crate::reply::{QUESTION_NAME, Reply, Why};
use crate::{NameError, Resolved};
use causeway_model::{Vip, VipName};
use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use std::time::Duration;

/// The version of the multi-cluster DNS specification, and how long it may be kept (its section 2.2).
const SCHEMA_VERSION: (&str, u32) = ("1.0.0", 28_800);

/// Which addresses names have.
#[derive(Clone, Copy, Debug)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    fn of(self, vip: Vip) -> impl Iterator<Item = RData> {
        let v4 = self.v4.then(|| RData::A(A(vip.v4())));
        let v6 = self.v6.then(|| RData::AAAA(AAAA(vip.v6())));
        v4.into_iter().chain(v6)
    }
}

/// What is known about the owner of a question's name.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It needs nobody's knowledge, or there is no such name.
    Fixed(Owner),
    /// A service, or ports of it.
    Service(Result<Resolved, NameError>, Option<Ports>),
    /// The name of a virtual address.
    Reverse(Result<VipName, NameError>),
}

/// Writes answers for our zones.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    mesh: Name,
    families: Families,
    ttl: u32,
    negative_ttl: u32,
    recursive: bool,
}

/// An answer before its header is known.
enum Records {
    /// These, all of the question's name.
    Some(Vec<RData>, u32),
    /// Ports of a service whose own name begins at this label.
    Ports(Vec<u16>, usize, Vip),
    /// The name exists, and has no record of the type.
    NoData,
    /// There is no such name.
    NoName,
}

impl Writer {
    pub(crate) fn new(config: &DnsConfig, recursive: bool) -> Self {
        let secs = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).min(i32::MAX as u32);
        Self {
            mesh: config.zone.clone(),
            families: Families { v4: config.ipv4, v6: config.ipv6 },
            ttl: secs(config.ttl),
            negative_ttl: secs(config.negative_ttl),
            recursive,
        }
    }

    /// Writes the answer to `question`, which lies in `zone`.
    pub(crate) fn write(
        &self,
        question: &Question,
        zone: &Zone,
        found: &Found,
        out: &mut Vec<u8>,
    ) -> Result<ResponseCode, ProtoError> {
        let records = match found {
            Found::Service(Err(NameError::Unavailable(why)), _)
            | Found::Reverse(Err(NameError::Unavailable(why))) => {
                return self.unavailable(question, why, out);
            }
            Found::Service(Err(NameError::Unknown), _) => Records::NoName,
            Found::Service(Ok(resolved), ports) => self.service(question.kind, resolved, *ports),
            Found::Reverse(name) => self.reverse(question.kind, name.as_ref().ok()),
            Found::Fixed(owner) => self.fixed(question.kind, owner, zone),
        };
        let code = match records {
            Records::NoName => ResponseCode::NXDomain,
            _ => ResponseCode::NoError,
        };
        let mut reply = Reply::new(out, question, code, None)?.authoritative().recursive(self.recursive);
        match records {
            Records::Some(records, ttl) => {
                records.iter().for_each(|record| reply.answer(QUESTION_NAME, ttl, record));
            }
            Records::Ports(ports, skip, vip) => self.ports(&mut reply, question, &ports, skip, vip),
            Records::NoData | Records::NoName => {
                // the name of a zone is the end of every name in it
                let apex = QUESTION_NAME + wire_len(&question.name) - zone.wire_len;
                reply.authority(apex, self.negative_ttl, &self.soa(zone));
            }
        }
        reply.finish()
    }

    fn unavailable(
        &self,
        question: &Question,
        why: &str,
        out: &mut Vec<u8>,
    ) -> Result<ResponseCode, ProtoError> {
        let why = Why::new(crate::reply::WhyCode::NoReachableAuthority, why);
        Reply::new(out, question, ResponseCode::ServFail, Some(&why))?.recursive(self.recursive).finish()
    }

    fn service(&self, kind: RecordType, resolved: &Resolved, ports: Option<Ports>) -> Records {
        let has = |port| ports.is_none_or(|ports| ports.has(port));
        let numbers: Vec<u16> = match (kind, ports) {
            (RecordType::A | RecordType::AAAA, None) => Vec::new(),
            _ => resolved.ports.iter().filter(|&port| has(port)).map(|port| port.port).collect(),
        };
        if ports.is_some() && numbers.is_empty() {
            return Records::NoName;
        }
        let leaf = ports.is_none_or(Ports::is_leaf);
        match (kind, ports) {
            (RecordType::A | RecordType::AAAA, None) => self.addresses(kind, resolved.vip),
            // one set of records is answer enough to the question for all of them (RFC 8482 section 4.1)
            (RecordType::ANY, None) if self.families.v4 => self.addresses(RecordType::A, resolved.vip),
            (RecordType::ANY, None) => self.addresses(RecordType::AAAA, resolved.vip),
            (RecordType::SRV | RecordType::ANY, _) if leaf && !numbers.is_empty() => {
                Records::Ports(numbers, ports.map_or(0, Ports::labels), resolved.vip)
            }
            _ => Records::NoData,
        }
    }

    fn addresses(&self, kind: RecordType, vip: Vip) -> Records {
        let records: Vec<RData> =
            self.families.of(vip).filter(|record| record.record_type() == kind).collect();
        if records.is_empty() { Records::NoData } else { Records::Some(records, self.ttl) }
    }

    fn reverse(&self, kind: RecordType, name: Option<&VipName>) -> Records {
        match name.and_then(|name| forward_name(&self.mesh, name)) {
            None => Records::NoName,
            Some(name) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
                Records::Some(vec![RData::PTR(PTR(name))], self.ttl)
            }
            Some(_) => Records::NoData,
        }
    }

    fn fixed(&self, kind: RecordType, owner: &Owner, zone: &Zone) -> Records {
        match (owner, kind) {
            (Owner::Apex, RecordType::SOA | RecordType::ANY) => Records::Some(vec![self.soa(zone)], self.ttl),
            (Owner::SchemaVersion, RecordType::TXT | RecordType::ANY) => {
                let (version, ttl) = SCHEMA_VERSION;
                Records::Some(vec![RData::TXT(TXT::new(vec![version.to_owned()]))], ttl)
            }
            (Owner::Apex | Owner::Between | Owner::SchemaVersion, _) => Records::NoData,
            _ => Records::NoName,
        }
    }

    fn ports(&self, reply: &mut Reply<'_>, question: &Question, ports: &[u16], skip: usize, vip: Vip) {
        let name = &question.name;
        let target = (0..skip).fold(name.clone(), |name, _| name.base_name());
        let owner = QUESTION_NAME + wire_len(name) - wire_len(&target);
        for &port in ports {
            reply.answer(QUESTION_NAME, self.ttl, &RData::SRV(SRV::new(0, 0, port, target.clone())));
        }
        for address in self.families.of(vip) {
            reply.additional(owner, self.ttl, &address);
        }
    }

    /// The record that makes a negative answer worth keeping (RFC 2308). Zones are not transferred, so their serial number
    /// stays what it is.
    fn soa(&self, of: &Zone) -> RData {
        let below = |label| zone([label]).append_domain(&of.apex).unwrap_or_else(|_| of.apex.clone());
        let (server, person) = (below("ns"), below("hostmaster"));
        RData::SOA(SOA::new(server, person, 1, 7_200, 1_800, 86_400, self.negative_ttl))
    }
}
