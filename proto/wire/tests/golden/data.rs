//! `causeway-data/1`.

use crate::messages::Examples;
use crate::nouns::*;
use causeway_model::{Protocol, WorkloadId};
use causeway_wire::CloseCode;
use causeway_wire::data::*;
use causeway_wire::datagram::FlowId;

pub(crate) fn messages() -> Examples<DataMessage> {
    let hello = DataHello {
        version: version(),
        cluster: cluster_id(1),
        instance: WorkloadId(0x0102_0304_0506_0708),
        direct: vec!["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()],
    };
    Examples::of("data")
        .with("hello", hello)
        .with("header-tcp", header(Protocol::Tcp))
        .with("header-udp", header(Protocol::Udp))
        .with("header-http", header(Protocol::Http))
        .with("header-grpc", header(Protocol::Grpc))
        .with("answer-accepted", StreamAnswer::Accepted)
        .with("answer-refused", StreamAnswer::Refused(CloseCode::PortUnknown.code()))
        .with("flow", FlowStart { id: FlowId(0x1234) })
}

fn header(protocol: Protocol) -> StreamHeader {
    let traced = matches!(protocol, Protocol::Http | Protocol::Grpc);
    StreamHeader {
        service: parsed("payments.shop"),
        port: 8443,
        protocol,
        trace: traced.then_some(([0x0a; 16], [0x0b; 8])),
        deadline_ms: 30_000,
    }
}
