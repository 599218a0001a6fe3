//! Any 20 bytes are a connection ID, and what is made of its parts is taken apart to the same.
#![no_main]

use causeway_model::{ClusterId, Epoch, NodeId, ServiceHandle, WorkloadId};
use causeway_wire::cid::{CID_LEN, Cid, CidKeys, CidKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((bytes, key)) = input.split_first_chunk::<CID_LEN>() else { return };
    let cid = Cid(*bytes);
    assert_eq!(Cid::from_slice(bytes), Some(cid));
    assert_eq!(cid.to_string().len(), 2 * CID_LEN);
    assert_eq!(cid.with_random(cid.random()), cid);
    let (head, tail) = (u64::from_be_bytes(bytes[4..12].try_into().unwrap()), cid.random());
    let cluster = cid.cluster().unwrap_or(ClusterId::from_hash(1));
    let epoch = Epoch(u64::from(cid.epoch_bits()));
    assert_eq!(Cid::service(cluster, ServiceHandle(head), tail).handle(), Some(ServiceHandle(head)));
    assert_eq!(Cid::gateway(cluster, NodeId(head), tail).node(), Some(NodeId(head)));
    assert_eq!(Cid::endpoint(cluster, epoch, head, tail).tag(), Some(head));

    let mut secret = [7; 16];
    secret.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let keys = CidKeys::new(cluster, [(epoch, secret)]);
    let minted = keys.mint(WorkloadId(head), tail).expect("there is a key");
    assert_eq!(keys.open(&minted), Some(WorkloadId(head)));
    assert_eq!((minted.kind(), minted.cluster()), (Some(CidKind::Workload), Some(cluster)));
    let ours = cid.kind() == Some(CidKind::Workload) && cid.cluster() == Some(cluster);
    assert_eq!(keys.open(&cid).is_some(), ours);
});
