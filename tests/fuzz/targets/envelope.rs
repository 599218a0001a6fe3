//! An envelope is read or it is not, whatever the datagram; what was read is written the same, and holds a packet and nothing else.
#![no_main]

use causeway_wire::Envelope;
use causeway_wire::envelope::MAX_HOPS;
use causeway_wire::packet::{Datagram, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok((envelope, header, packet)) = Envelope::parse(datagram) else { return };
    assert_eq!(Datagram::classify(datagram[0]), Datagram::Envelope);
    assert!(envelope.hops <= MAX_HOPS);
    assert_eq!([&envelope.encode()[..], packet].concat(), datagram);
    assert_eq!(Datagram::classify(packet[0]), Datagram::Quic);
    assert_eq!(Header::parse(packet), Ok(header));
});
