//! What is in packets: connection IDs, probes, and the keys that are derived for them; the numbers and names of the protocols.

use crate::folder::Sample;
use crate::nouns::cluster_id;
use bytes::{Bytes, BytesMut};
use causeway_model::{Epoch, NodeId, ServiceHandle, WorkloadId};
use causeway_wire::cid::{Cid, CidKey, CidKeys};
use causeway_wire::datagram::{CapsuleDecoder, FlowId, put_capsule};
use causeway_wire::envelope::{Envelope, MAX_HOPS};
use causeway_wire::packet::Header;
use causeway_wire::probe::*;
use causeway_wire::{CloseCode, alpn};

const KEY: [u8; 32] = [0x5a; 32];

pub(crate) fn samples() -> Vec<Sample> {
    let mut all = cids();
    all.extend(probes());
    all.extend(answers());
    all.push(envelope());
    all.extend(payloads());
    all.extend(derived_keys());
    all.extend(tables());
    all
}

fn same<T: PartialEq + std::fmt::Debug>(read: &T, sample: &T) -> Result<(), String> {
    if read == sample { Ok(()) } else { Err(format!("reads as {read:?}, not {sample:?}")) }
}

fn cids() -> Vec<Sample> {
    let (cluster, workload, tail) =
        (cluster_id(0x0a_0b0c), WorkloadId(0x0102_0304_0506_0708), 0x99aa_bbcc_ddee_ff00);
    let keys = CidKeys::new(cluster, [(Epoch(0x23), [0x5a; 16])]);
    let minted = keys.mint(workload, tail).unwrap();
    let tag = CidKey::new(Epoch(0x23), [0x5a; 16]).endpoint_tag(workload);
    let cid = |name, cid: Cid, read: fn(&Cid) -> Option<u64>, value: u64| {
        Sample::bytes(name, cid.0, move |bytes| {
            let cid = Cid::from_slice(bytes).ok_or("not 20 bytes")?;
            same(&(cid.cluster(), read(&cid), cid.random()), &(Some(cluster), Some(value), tail))
        })
    };
    let handle = ServiceHandle(0x1122_3344_5566_7788);
    vec![
        Sample::bytes("cid.workload", minted.0, move |bytes| {
            let cid = Cid::from_slice(bytes).ok_or("not 20 bytes")?;
            same(&keys.open(&cid), &Some(workload))
        }),
        cid("cid.service", Cid::service(cluster, handle, tail), |c| c.handle().map(|h| h.0), handle.0),
        cid("cid.gateway", Cid::gateway(cluster, NodeId(3), tail), |c| c.node().map(|n| n.0), 3),
        cid("cid.endpoint", Cid::endpoint(cluster, Epoch(0x23), tag, tail), Cid::tag, tag),
    ]
}

fn name(scope: ProbeScope) -> &'static str {
    match scope {
        ProbeScope::Workload => "workload",
        ProbeScope::Sibling => "sibling",
        ProbeScope::Link => "link",
        ProbeScope::Direct => "direct",
    }
}

fn datagram(bytes: &[u8]) -> Result<&[u8; PROBE_LEN], String> {
    let bytes = bytes.try_into().map_err(|_| "not 64 bytes")?;
    if verify(bytes, &KEY) { Ok(bytes) } else { Err("the tag is wrong".to_owned()) }
}

fn probes() -> Vec<Sample> {
    let scopes = [ProbeScope::Workload, ProbeScope::Sibling, ProbeScope::Link, ProbeScope::Direct];
    let sample = |scope| {
        let probe = Probe {
            scope,
            epoch_bits: 3,
            cluster: cluster_id(0x0a_0b0c),
            sender: 0x0102_0304_0506_0708,
            seq: 0x1000,
            cookie: [0xc0; 16],
            in_use: scope == ProbeScope::Workload,
            deaf: false,
        };
        Sample::bytes(format!("probe.{}", name(scope)), probe.encode(&KEY), move |bytes| {
            same(&Probe::decode(datagram(bytes)?), &Some(probe))
        })
    };
    scopes.map(sample).into()
}

fn answers() -> Vec<Sample> {
    let sample = |(file, scope, state)| {
        let answer = Answer { scope, state, interval_ms: 500, responder: 2, seq: 0x1000, cookie: [0xc1; 16] };
        Sample::bytes(file, answer.encode(&KEY), move |bytes| {
            same(&Answer::decode(datagram(bytes)?), &Some(answer))
        })
    };
    [
        ("answer.ready", ProbeScope::Workload, ResponderState::Ready),
        ("answer.not-ready", ProbeScope::Link, ResponderState::NotReady),
    ]
    .map(sample)
    .into()
}

fn envelope() -> Sample {
    let to = Cid::gateway(cluster_id(3), NodeId(7), 9);
    let packet = [&[0x40][..], &to.0, &[0xee; 20]].concat();
    let envelope = Envelope { hops: MAX_HOPS, origin: cluster_id(0x0a_0b0c) };
    let written = [&envelope.encode()[..], &packet].concat();
    Sample::bytes("envelope", written, move |bytes| {
        let header = Header::parse(&packet).map_err(|error| error.to_string())?;
        same(&Envelope::parse(bytes), &Ok((envelope, header, &packet[..])))
    })
}

fn payloads() -> Vec<Sample> {
    let datagram = [&FlowId(0x1234).prefix()[..], b"payload"].concat();
    let datagram = Sample::bytes("payload.datagram", datagram, |bytes| {
        let read = FlowId::split(Bytes::copy_from_slice(bytes));
        same(&read, &Some((FlowId(0x1234), Bytes::from_static(b"payload"))))
    });
    // lengths of one byte and of two
    let payloads = [vec![1; 3], vec![2; 64]];
    let mut capsules = BytesMut::new();
    for payload in &payloads {
        put_capsule(&mut capsules, payload).unwrap();
    }
    let capsules = Sample::bytes("payload.capsules", capsules, move |bytes| {
        let mut decoder = CapsuleDecoder::new();
        decoder.push(bytes);
        for payload in &payloads {
            let read = decoder.next_payload().map_err(|error| error.to_string())?;
            same(&read, &Some(Bytes::copy_from_slice(payload)))?;
        }
        same(&decoder.is_empty(), &true)
    });
    vec![datagram, capsules]
}

fn derived_keys() -> Vec<Sample> {
    let key = |name, key: [u8; 32]| Sample::bytes(name, key, move |bytes| same(&bytes, &&key[..]));
    vec![
        key("key.probe-workload", workload_key(&KEY, WorkloadId(7))),
        key("key.probe-gateway", gateway_key(&KEY, NodeId(7))),
        key("key.probe-link", link_key(&KEY, cluster_id(9), NodeId(7))),
    ]
}

fn tables() -> Vec<Sample> {
    let mut codes: Vec<CloseCode> = CloseCode::ALL.to_vec();
    codes.sort_by_key(|code| code.code());
    let lines: String = codes.iter().map(|code| format!("{} {}\n", code.code(), code.reason())).collect();
    let names: Vec<String> = [alpn::RAFT, alpn::LINK, alpn::CTL, alpn::DATA]
        .into_iter()
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    vec![Sample::text("close-codes", lines, read_codes), Sample::list("alpn", &names)]
}

/// Every number still has its word.
fn read_codes(table: &str) -> Result<(), String> {
    for line in table.lines() {
        let (number, word) = line.split_once(' ').ok_or("not a number and a word")?;
        let code = CloseCode::from_code(number.parse().map_err(|_| "not a number")?);
        same(&code.map(CloseCode::reason), &Some(word))?;
    }
    Ok(())
}
