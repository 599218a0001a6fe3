//! The two readers of a packet's header agree, whatever the datagram.
#![no_main]

use causeway_wire::packet::{Datagram, Header, PacketType, dcid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let fast = dcid(datagram);
    let Ok(header) = Header::parse(datagram) else { return };
    assert_eq!(fast, Some(&header.dcid.0));
    assert_eq!(header.packet_type == PacketType::Short, datagram[0] & 0x80 == 0);
    assert_eq!(Datagram::classify(datagram[0]), Datagram::Quic);
    if let Some(scid) = header.scid {
        assert_eq!(datagram[27..47], scid.0);
    }
});
