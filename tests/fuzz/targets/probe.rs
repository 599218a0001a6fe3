//! A datagram is a probe, an answer or neither; what was read is written as something that reads as the same.
#![no_main]

use causeway_wire::packet::Datagram;
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, verify};
use libfuzzer_sys::fuzz_target;

const KEY: [u8; 32] = [0x5a; 32];

fuzz_target!(|input: &[u8]| {
    let Some(bytes) = input.first_chunk::<PROBE_LEN>() else { return };
    let (probe, answer) = (Probe::decode(bytes), Answer::decode(bytes));
    assert!(probe.is_none() || answer.is_none());
    let _ = verify(bytes, &KEY);
    if let Some(probe) = probe {
        assert_eq!(Datagram::classify(bytes[0]), Datagram::Probe);
        let written = probe.encode(&KEY);
        assert_eq!(Probe::decode(&written), Some(probe));
        check_tag(written);
    }
    if let Some(answer) = answer {
        assert_eq!(Datagram::classify(bytes[0]), Datagram::Probe);
        let written = answer.encode(&KEY);
        assert_eq!(Answer::decode(&written), Some(answer));
        check_tag(written);
    }
});

/// The tag holds, and not for anything else.
fn check_tag(mut bytes: [u8; PROBE_LEN]) {
    assert!(verify(&bytes, &KEY));
    let at = usize::from(bytes[23]) % PROBE_LEN;
    bytes[at] ^= 1;
    assert!(!verify(&bytes, &KEY));
}
