//! What an imported service costs in memory, and a cold sync in time: up to 20 linked clusters of 5,000 services in the normal run,
//! 100 of them with `--ignored`. The figures are printed (`--nocapture`).

#![allow(clippy::unwrap_used, unsafe_code, reason = "a test; it counts allocations")]

use causeway_federation::{DigestVerdict, Exporter, ImportRules, PeerImports};
use causeway_model::{ClusterFacts, ClusterId, Epoch, Locality, NodeId, ServiceHandle};
use causeway_wire::codec::{FrameDecoder, Message};
use causeway_wire::link::LinkMessage;
use causeway_wire::view::ExportSummary;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bytes in use, as glibc's allocator hands them out: a header of 8 bytes, in steps of 16, 32 at least.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// The most bytes that an imported service may take, all in.
const LIMIT: usize = 400;

struct Counting;

fn cost(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call is passed on to the system's allocator as it came; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(cost(layout), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(cost(layout), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn facts(cluster: u32) -> ClusterFacts {
    ClusterFacts {
        name: format!("c{cluster}").parse().unwrap(),
        id: ClusterId::new(cluster + 2).unwrap(),
        trust_domain: format!("c{cluster}.mesh").parse().unwrap(),
        locality: Locality { region: "us-phoenix-1".into(), zone: "PHX-AD-1".into() },
    }
}

/// A service as they are: two ports, two identities of its own, endpoints in three zones.
fn summary(cluster: u32, number: u64) -> ExportSummary {
    let name = format!("payments-{number:05}");
    let identity = |account: &str| format!("spiffe://c{cluster}.mesh/ns/shop/sa/{account}").parse().unwrap();
    let zone =
        |zone: u32| (Locality { region: "us-phoenix-1".into(), zone: format!("PHX-AD-{zone}") }, 3 + zone);
    ExportSummary {
        name: format!("{name}.shop").parse().unwrap(),
        handle: ServiceHandle((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        ports: vec!["80/http".parse().unwrap(), "9090/grpc".parse().unwrap()].try_into().unwrap(),
        identities: vec![identity(&name), identity("deploy")],
        healthy: 14,
        total: 15,
        localities: (1..4).map(zone).collect(),
    }
}

/// What one cluster tells a new connection, as bytes.
fn told(cluster: u32, services: u64) -> Vec<u8> {
    let mut exporter = Exporter::new(Epoch(1));
    let all: BTreeMap<_, _> = (0..services).map(|n| summary(cluster, n)).map(|s| (s.handle, s)).collect();
    assert!(exporter.set_exports(all).left_out.is_empty());
    let frames = exporter.snapshot().into_iter().map(LinkMessage::from);
    let digest = LinkMessage::from(exporter.digest());
    frames.chain([digest]).flat_map(|message| message.to_frame().unwrap()).collect()
}

/// `bytes` arrive from each of `nodes` at the same time, in pieces, as streams deliver them.
fn hear(imports: &mut PeerImports, now: Instant, nodes: &[NodeId], bytes: &[u8]) {
    let mut decoders: Vec<_> = nodes.iter().map(|node| (*node, FrameDecoder::new())).collect();
    for node in nodes {
        imports.handle_open(now, *node).unwrap();
    }
    for piece in bytes.chunks(64 << 10) {
        for (node, decoder) in &mut decoders {
            decoder.push(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                take(imports, now, *node, LinkMessage::from_frame(&frame).unwrap().unwrap());
            }
        }
    }
}

fn take(imports: &mut PeerImports, now: Instant, node: NodeId, message: LinkMessage) {
    match message {
        LinkMessage::Exports(exports) => {
            assert_eq!(imports.handle_exports(now, node, exports).unwrap().refused_count, 0);
        }
        LinkMessage::Digest(digest) => {
            let told = imports.handle_digest(now, node, &digest, true);
            assert_eq!(told.verdict, DigestVerdict::InStep);
        }
        other => unreachable!("{other:?}"),
    }
}

/// The time that this thread has been on a processor: other tests share the machine.
fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

struct Measured {
    bytes_per_service: usize,
    sync: Duration,
}

/// `clusters` of `services` each, told by `tellers` gateways each.
fn measure(clusters: u32, services: u64, tellers: u64) -> Measured {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::with_capacity(clusters as usize);
    let (mut sync, mut bytes) = (Duration::ZERO, 0);
    for cluster in 0..clusters {
        let told = told(cluster, services);
        let before = IN_USE.load(Ordering::Relaxed);
        let (start, begun) = (Instant::now(), worked());
        let mut imports = PeerImports::new(ImportRules::new(facts(cluster)));
        let nodes: Vec<NodeId> = (1..=tellers).map(NodeId).collect();
        // half of what tells them comes at once, the rest later
        let (first, later) = nodes.split_at(nodes.len().div_ceil(2));
        hear(&mut imports, start, first, &told);
        hear(&mut imports, start, later, &told);
        sync += worked() - begun;
        bytes += IN_USE.load(Ordering::Relaxed) - before;
        assert_eq!(imports.len() as u64, services);
        all.push(imports);
    }
    let count = clusters as usize * usize::try_from(services).unwrap();
    let measured = Measured { bytes_per_service: bytes / count, sync };
    println!(
        "{clusters} clusters x {services} services told by {tellers}: {} bytes a service, cold sync in {:?}",
        measured.bytes_per_service, measured.sync
    );
    measured
}

#[test]
fn an_imported_service_is_small_told_by_one_gateway() {
    assert!(measure(20, 5_000, 1).bytes_per_service < LIMIT);
}

#[test]
fn an_imported_service_is_small_told_by_three_gateways() {
    assert!(measure(6, 5_000, 3).bytes_per_service < LIMIT);
}

#[test]
#[ignore = "a measurement of a minute without optimisation"]
fn five_hundred_thousand_services_are_synced_within_half_a_minute() {
    for tellers in [1, 3] {
        let measured = measure(100, 5_000, tellers);
        assert!(measured.bytes_per_service < LIMIT);
        assert!(measured.sync < Duration::from_secs(30), "{:?}", measured.sync);
    }
}
