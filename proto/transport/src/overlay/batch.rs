//! Batches of datagrams: how they are split for sending, and how probes are taken out of received ones.

use causeway_wire::packet::Datagram;
use causeway_wire::probe::PROBE_LEN;

/// The most bytes of one send: a UDP datagram's 65,507, rounded down. A larger batch fails with EMSGSIZE, which quinn-udp
/// swallows: it would be lost without a trace.
const MAX_BATCH: usize = 65_000;

/// How many datagrams of `size` bytes one send may carry; at least one.
#[inline]
pub(super) fn per_call(size: usize) -> usize {
    (MAX_BATCH / size.max(1)).max(1)
}

/// Gives every probe and answer in `batch` to `take` and closes the gaps; returns the length of what is left.
///
/// GRO joins datagrams of one flow when all but the last have the same length (`stride`), whatever is in them: a short probe may be
/// the tail of a batch of packets, and packets of a probe's length may be mixed with probes.
#[inline]
pub(super) fn take_probes(batch: &mut [u8], stride: usize, mut take: impl FnMut(&[u8; PROBE_LEN])) -> usize {
    let len = batch.len();
    let stride = stride.max(1);
    let tail = len.saturating_sub(1) / stride * stride;
    if stride != PROBE_LEN {
        return match probe(&batch[tail..]) {
            Some(probe) => {
                take(probe);
                tail
            }
            None => len,
        };
    }
    let mut kept = 0;
    for at in (0..len).step_by(stride) {
        let end = (at + stride).min(len);
        if let Some(probe) = probe(&batch[at..end]) {
            take(probe);
        } else {
            if kept < at {
                batch.copy_within(at..end, kept);
            }
            kept += end - at;
        }
    }
    kept
}

#[inline]
fn probe(datagram: &[u8]) -> Option<&[u8; PROBE_LEN]> {
    let probe: &[u8; PROBE_LEN] = datagram.try_into().ok()?;
    (Datagram::classify(probe[0]) == Datagram::Probe).then_some(probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_clamp_keeps_batches_below_64_kib() {
        assert_eq!([1200, 1452, 8900, 70_000, 0].map(per_call), [54, 44, 7, 1, 65_000]);
    }

    fn datagram(is_probe: bool, len: usize, tag: u8) -> Vec<u8> {
        let mut bytes = vec![tag; len];
        bytes[0] = if is_probe { 0x02 } else { 0x40 };
        bytes
    }

    proptest! {
        /// What GRO may join: datagrams of one length, and a last one that may be shorter.
        #[test]
        fn probes_come_out_and_packets_stay_whole(
            stride in prop_oneof![Just(PROBE_LEN), 41usize..200],
            kinds in proptest::collection::vec(any::<bool>(), 0..12),
            tail in proptest::option::of((any::<bool>(), 0usize..200)),
        ) {
            let mut all: Vec<Vec<u8>> = vec![];
            for (tag, probe) in (0u8..).zip(&kinds) {
                all.push(datagram(*probe && stride == PROBE_LEN, stride, tag));
            }
            if let Some((probe, shorter)) = tail && shorter < stride {
                let probe = probe && stride > PROBE_LEN;
                all.push(datagram(probe, if probe { PROBE_LEN } else { shorter.max(1) }, 200));
            }
            let (probes, packets): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|d| d[0] == 0x02);
            let mut batch = all.concat();
            let mut taken = vec![];
            let left = take_probes(&mut batch, stride, |probe| taken.push(probe.to_vec()));
            prop_assert_eq!(taken, probes);
            let kept: Vec<Vec<u8>> = batch[..left].chunks(stride).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(kept, packets);
        }

        #[test]
        fn any_bytes_are_taken_without_panic(mut batch in proptest::collection::vec(any::<u8>(), 0..300), stride in 0usize..300) {
            let left = take_probes(&mut batch, stride, |_| ());
            prop_assert!(left <= batch.len());
        }
    }
}
