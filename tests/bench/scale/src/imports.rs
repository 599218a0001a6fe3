//! The core that believes linked clusters: every frame is encoded, cut out of a stream, decoded and believed.

use crate::args::Args;
use crate::figures::Figures;
use crate::services::{all, encoded, exporter, facts, summary};
use crate::times::millis;
use crate::{memory, process};
use causeway_federation::{DigestVerdict, Exporter, ImportRules, PeerImports};
use causeway_model::NodeId;
use causeway_wire::codec::{FrameDecoder, Message};
use causeway_wire::link::LinkMessage;
use std::time::{Duration, Instant};

/// The most bytes that an imported service may take.
pub(crate) const SERVICE_BYTES: f64 = 400.0;
/// How long a gateway may take to learn of all of them, in seconds.
pub(crate) const COLD_SYNC_S: f64 = 30.0;

/// Measures with each number of gateways that tell.
pub(crate) fn run(args: &Args, figures: &mut Figures) {
    let of = format!("{} x {}", args.clusters, args.services);
    for &tellers in &args.tellers {
        cold(args, tellers, &format!("{of}, told by {tellers}"), figures);
    }
    changes(args, figures);
}

fn cold(args: &Args, tellers: u64, of: &str, figures: &mut Figures) {
    let resident = process::resident(std::process::id());
    let mut peers = Vec::with_capacity(args.clusters as usize);
    let (mut sync, mut bytes, mut told_bytes) = (Duration::ZERO, 0, 0);
    for cluster in 0..args.clusters {
        let exporter = exporter(cluster, args.services);
        let mut told = encoded(exporter.snapshot()).to_vec();
        told.extend_from_slice(&encoded([exporter.digest()]));
        told_bytes += told.len();
        drop(exporter);
        let (before, begun) = (memory::in_use(), process::thread_worked());
        let mut imports = PeerImports::new(ImportRules::new(facts(cluster)));
        let nodes: Vec<NodeId> = (1..=tellers).map(NodeId).collect();
        // half of those that tell come at once, the rest later
        let (first, later) = nodes.split_at(nodes.len().div_ceil(2));
        let now = Instant::now();
        hear(&mut imports, now, first, &told);
        hear(&mut imports, now, later, &told);
        sync += process::thread_worked() - begun;
        bytes += memory::in_use() - before;
        assert_eq!(imports.len() as u64, args.services);
        peers.push(imports);
    }
    let count = f64::from(args.clusters) * args.services as f64;
    figures.hold(format!("{of}: allocated for each service"), bytes as f64 / count, "bytes", SERVICE_BYTES);
    let resident = process::resident(std::process::id()) - resident;
    if tellers == args.tellers[0] {
        // later ones find pages that the first one has left
        figures.note(format!("{of}: resident for each service"), resident / count, "bytes");
    }
    figures.hold(format!("{of}: CPU time of a cold sync"), sync.as_secs_f64(), "s", COLD_SYNC_S);
    figures.note(format!("{of}: a service in a snapshot"), told_bytes as f64 / count, "bytes");
    drop(peers);
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
            assert_eq!(imports.handle_digest(now, node, &digest, true).verdict, DigestVerdict::InStep);
        }
        other => panic!("{other:?}"),
    }
}

/// One service changes; and nothing does.
fn changes(args: &Args, figures: &mut Figures) {
    const ROUNDS: u32 = 100;
    let mut exporter = exporter(0, args.services);
    let mut imports = PeerImports::new(ImportRules::new(facts(0)));
    let (now, node) = (Instant::now(), NodeId(1));
    hear(&mut imports, now, &[node], &encoded(exporter.snapshot()));
    let (mut adding, mut taking, mut size) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let (_, have) = exporter.position();
        let mut desired = all(0, args.services);
        let mut changed = summary(0, u64::from(round) % args.services);
        changed.healthy -= 1 + round / 2 % 10;
        desired.insert(changed.handle, changed);
        let begun = process::thread_worked();
        let outcome = exporter.set_exports(desired);
        adding += process::thread_worked() - begun;
        // the one of the round before is as it was again
        assert!((1..=2).contains(&outcome.changed), "{outcome:?}");
        let frames = exporter.resume((exporter.position().0, have)).unwrap();
        let delta = encoded(frames);
        size = delta.len() / outcome.changed;
        let begun = process::thread_worked();
        let mut decoder = FrameDecoder::new();
        decoder.push(&delta);
        while let Some(frame) = decoder.next_frame().unwrap() {
            take(&mut imports, now, node, LinkMessage::from_frame(&frame).unwrap().unwrap());
        }
        taking += process::thread_worked() - begun;
    }
    figures.note("delta of one service, on the wire", size as f64, "bytes");
    figures.note(
        format!("comparing {} exports, one of which changed", args.services),
        millis(adding / ROUNDS),
        "ms",
    );
    figures.note("taking a delta of two services", millis(taking / ROUNDS) * 1e3, "us");
    digests(&exporter, &mut imports, figures);
}

fn digests(exporter: &Exporter, imports: &mut PeerImports, figures: &mut Figures) {
    const ROUNDS: u32 = 10_000;
    let now = Instant::now();
    let begun = process::thread_worked();
    let mut bytes = encoded([exporter.digest()]);
    for _ in 0..ROUNDS {
        bytes = encoded([exporter.digest()]);
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        take(imports, now, NodeId(1), LinkMessage::from_frame(&frame).unwrap().unwrap());
    }
    let each = (process::thread_worked() - begun) / ROUNDS;
    figures.note("digest, made, sent and compared", millis(each) * 1e3, "us");
    figures.note("digest, on the wire", bytes.len() as f64, "bytes");
}
