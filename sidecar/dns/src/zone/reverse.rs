//! The reverse zones of virtual addresses (RFC 1035 section 3.5, RFC 3596 section 2.5): nobody else can answer for them.

use super::Owner;
use crate::config::zone;
use causeway_model::Vip;
use hickory_proto::rr::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nibbles of an IPv6 address after the network of virtual addresses.
const V6_NIBBLES: usize = 32 - Vip::V6_NET.1 as usize / 4;

/// `240.in-addr.arpa`.
pub(super) fn zone_v4() -> Name {
    let first = Vip::V4_NET.0.octets()[0].to_string();
    zone([first.as_str(), "in-addr", "arpa"])
}

/// The zone of the network of virtual addresses below `ip6.arpa`.
pub(super) fn zone_v6() -> Name {
    let nibbles: Vec<String> =
        (0..32 - V6_NIBBLES).rev().map(|at| format!("{:x}", nibble(Vip::V6_NET.0, at))).collect();
    zone(nibbles.iter().map(String::as_str).chain(["ip6", "arpa"]))
}

fn nibble(ip: Ipv6Addr, at: usize) -> u128 {
    ip.to_bits() >> (124 - 4 * at) & 0xf
}

/// What the labels before the zone mean, the last part of the address first.
pub(super) fn owner<'a>(
    v4: bool,
    labels: impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator,
) -> Owner {
    let count = labels.len();
    if count == 0 {
        return Owner::Apex;
    }
    let full = if v4 { 3 } else { V6_NIBBLES };
    let Some(parts) = parts(v4, labels.rev()) else { return Owner::Nothing };
    match count.cmp(&full) {
        std::cmp::Ordering::Less => Owner::Between,
        std::cmp::Ordering::Equal => Vip::from_ip(parts).map_or(Owner::Nothing, Owner::Reverse),
        std::cmp::Ordering::Greater => Owner::Nothing,
    }
}

fn parts<'a>(v4: bool, labels: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
    if v4 {
        let bits =
            labels.take(3).try_fold(0, |bits: u32, label| Some(bits << 8 | u32::from(octet(label)?)))?;
        return Some(Ipv4Addr::from_bits(Vip::V4_NET.0.to_bits() | bits).into());
    }
    let bits = labels.take(V6_NIBBLES).try_fold(0, |bits: u128, label| Some(bits << 4 | hex(label)?))?;
    Some(Ipv6Addr::from_bits(Vip::V6_NET.0.to_bits() | bits).into())
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    text.parse::<u8>().ok().filter(|octet| octet.to_string() == text)
}

fn hex(label: &[u8]) -> Option<u128> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).map(u128::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Zones;

    fn owner_of(name: &Name) -> Option<Owner> {
        Zones::new(&zone(["mesh"]), true).find(name).map(|(_, owner)| owner)
    }

    #[test]
    fn the_reverse_name_of_an_address_means_it() {
        for number in [1, 0x0001_0203, Vip::MAX] {
            let vip = Vip::new(number).unwrap();
            for ip in [IpAddr::from(vip.v4()), vip.v6().into()] {
                assert_eq!(owner_of(&Name::from(ip)), Some(Owner::Reverse(vip)), "{ip}");
            }
        }
    }

    #[test]
    fn addresses_that_stand_for_nothing_have_no_name() {
        for ip in ["240.0.0.0", "240.255.255.255", "fd9c:43a6:77c1::", "fd9c:43a6:77c1:1::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(owner_of(&Name::from(ip)), Some(Owner::Nothing), "{ip}");
        }
        let name = |name| owner_of(&Name::from_ascii(name).unwrap());
        assert_eq!(name("240.in-addr.arpa."), Some(Owner::Apex));
        assert_eq!(name("1.240.in-addr.arpa."), Some(Owner::Between));
        assert_eq!(name("01.0.0.240.in-addr.arpa."), Some(Owner::Nothing));
        assert_eq!(name("1.1.0.0.240.in-addr.arpa."), Some(Owner::Nothing));
        for other in ["8.8.8.8", "241.0.0.1", "2001:db8::1"] {
            assert_eq!(owner_of(&Name::from(other.parse::<IpAddr>().unwrap())), None, "{other}");
        }
    }
}
