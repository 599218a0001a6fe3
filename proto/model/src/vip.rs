//! Virtual addresses: where an application connects to when it means a service.

use crate::{ClusterName, ParseError, ServiceName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The virtual address of a name: one number, and one address of each family that has it in its last 24 bits. Addresses are
/// of a cluster: the same name may have another number elsewhere.
///
/// They lie in 240.0.0.0/8, which is reserved (RFC 1112 section 4) and routed nowhere, and in a Unique Local IPv6 prefix
/// (RFC 4193) of the mesh's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vip(u32);

impl Vip {
    /// The IPv4 network of all virtual addresses, and the length of its prefix.
    pub const V4_NET: (Ipv4Addr, u8) = (Ipv4Addr::new(240, 0, 0, 0), 8);
    /// The IPv6 network of all virtual addresses, and the length of its prefix.
    pub const V6_NET: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd9c, 0x43a6, 0x77c1, 0, 0, 0, 0, 0), 48);
    /// The greatest number: 240.255.255.255 is left alone, as 240.0.0.0 is.
    pub const MAX: u32 = (1 << 24) - 2;

    /// The virtual address with this number, 1 to [`Vip::MAX`].
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Its IPv4 address.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Self::V4_NET.0.to_bits() | self.0)
    }

    /// Its IPv6 address.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(Self::V6_NET.0.to_bits() | u128::from(self.0))
    }

    /// Whether `ip` lies in one of the two networks, whatever name it is of.
    pub fn contains(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip.octets()[0] == Self::V4_NET.0.octets()[0],
            IpAddr::V6(ip) => ip.segments()[..3] == Self::V6_NET.0.segments()[..3],
        }
    }

    /// The virtual address that `ip` is of, if it can be one.
    pub fn from_ip(ip: IpAddr) -> Option<Self> {
        let number = match ip {
            IpAddr::V4(ip) => ip.to_bits() ^ Self::V4_NET.0.to_bits(),
            IpAddr::V6(ip) => u32::try_from(ip.to_bits() ^ Self::V6_NET.0.to_bits()).ok()?,
        };
        Self::new(number)
    }
}

impl TryFrom<u32> for Vip {
    type Error = ParseError;

    fn try_from(number: u32) -> Result<Self, ParseError> {
        let rule = "write a number from 1 to 16777214";
        Self::new(number).ok_or_else(|| ParseError::new("virtual address", &number.to_string(), rule))
    }
}

impl From<Vip> for u32 {
    fn from(vip: Vip) -> Self {
        vip.0
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.v4().fmt(f)
    }
}

impl fmt::Debug for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vip({self})")
    }
}

/// What a virtual address stands for: a service wherever it runs, or in one cluster only. Written `payments.shop` or
/// `payments.shop@phx`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipName {
    /// The service.
    pub service: ServiceName,
    /// The cluster that it is pinned to, if it is.
    pub cluster: Option<ClusterName>,
}

impl From<ServiceName> for VipName {
    fn from(service: ServiceName) -> Self {
        Self { service, cluster: None }
    }
}

impl FromStr for VipName {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let (service, cluster) =
            s.split_once('@').map_or((s, None), |(service, cluster)| (service, Some(cluster)));
        Ok(Self { service: service.parse()?, cluster: cluster.map(str::parse).transpose()? })
    }
}

impl fmt::Display for VipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "{}@{cluster}", self.service),
            None => self.service.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_an_address_of_each_family_and_is_read_back() {
        for number in [1, 0x0001_0203, Vip::MAX] {
            let vip = Vip::new(number).unwrap();
            for ip in [IpAddr::from(vip.v4()), vip.v6().into()] {
                assert_eq!(Vip::from_ip(ip), Some(vip));
                assert!(Vip::contains(ip));
            }
        }
        let vip = Vip::new(0x0001_0203).unwrap();
        assert_eq!(vip.v4().to_string(), "240.1.2.3");
        assert_eq!(vip.v6().to_string(), "fd9c:43a6:77c1::1:203");
    }

    #[test]
    fn no_other_address_is_taken_for_one() {
        for ip in [
            "240.0.0.0",
            "240.255.255.255",
            "241.0.0.1",
            "10.0.0.1",
            "fd9c:43a6:77c1::",
            "fd9c:43a6:77c1:1::1",
            "::1",
        ] {
            assert_eq!(Vip::from_ip(ip.parse().unwrap()), None, "{ip}");
        }
        assert!(Vip::contains("240.255.255.255".parse().unwrap()));
        assert!(
            !Vip::contains("241.0.0.1".parse().unwrap())
                && !Vip::contains("fd9c:43a6:77c2::1".parse().unwrap())
        );
        assert!(Vip::new(0).is_none() && Vip::new(1 << 24).is_none() && Vip::try_from(Vip::MAX + 1).is_err());
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in ["payments.shop", "payments.shop@phx"] {
            assert_eq!(text.parse::<VipName>().unwrap().to_string(), text);
        }
        for bad in ["payments", "payments.shop@", "payments.shop@a.b"] {
            assert!(bad.parse::<VipName>().is_err(), "{bad}");
        }
    }
}
