//! A member that does not keep to the rules: it has an identity and keys of its own, and asks for what it may not have.

use causeway_client::{ClientConfig, Control, ControlConfig, Joined, bootstrap};
use causeway_identity::{ServerRule, SvidSource, client_config};
use causeway_model::{ClusterId, NodeId, Protocol, ServiceHandle, WorkloadId};
use causeway_runtime::Tasks;
use causeway_test_mesh::{Cluster, Gateway, Mesh, SOON, Service, Stolen, loopback, wait_until};
use causeway_transport::{
    Connection, ConnectionKind, Destination, FrameReader, FrameWriter, Overlay, OverlayEndpoint,
    TransportSettings, close_reason,
};
use causeway_wire::data::{DataHello, DataMessage, StreamAnswer, StreamHeader};
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, ProbeScope, verify};
use causeway_wire::view::{Offer, VersionInfo};
use causeway_wire::{Cid, CidKey, CloseCode, alpn};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::time::timeout;

/// A member of a cluster without a sidecar.
struct Member {
    control: Control,
    endpoint: OverlayEndpoint,
    tasks: Tasks,
}

async fn enrol(mesh: &Mesh, cluster: &Cluster, account: &str) -> Joined {
    let token = mesh.ok(&["token", "create", "--account", account, "--context", cluster.name()]);
    let config = ClientConfig { token: Some(token.parse().unwrap()), weight: 1, ..ClientConfig::default() };
    let settings = TransportSettings::default();
    let joining = bootstrap(config, loopback().into(), &settings);
    timeout(SOON, joining).await.unwrap().unwrap()
}

impl Member {
    async fn join(mesh: &Mesh, cluster: &Cluster) -> Self {
        let (settings, tasks) = (TransportSettings::default(), Tasks::new());
        let joined = enrol(mesh, cluster, "member").await;
        let overlay = Overlay::bind((loopback(), 0).into(), &settings).unwrap();
        let endpoint = OverlayEndpoint::new(&overlay, None, &settings).unwrap();
        tokio::spawn(overlay.run_prober(tasks.token()));
        let control = Control::start(joined, endpoint.clone(), &overlay, ControlConfig::default(), &tasks);
        Self { control, endpoint, tasks }
    }

    /// The offer of `service`, once its endpoints are known.
    async fn offer(&self, service: &str) -> Offer {
        let mut subscription = self.control.subscribe(&service.parse().unwrap());
        let found = async {
            loop {
                let view = subscription.current();
                let offer =
                    view.and_then(|view| view.offers.iter().find(|o| !o.endpoints.is_empty()).cloned());
                match offer {
                    Some(offer) => return offer,
                    None => subscription.changed().await,
                }
            }
        };
        timeout(SOON, found).await.expect("an endpoint is told")
    }

    /// A connection to the first endpoint of `offer` as `svid`, without a hello.
    async fn connect(&self, offer: &Offer, svid: &SvidSource) -> Connection {
        let rule = ServerRule::OneOf(offer.identities.clone().into());
        let tls = client_config(rule, &self.control.bundles(), Some(svid), alpn::DATA).unwrap();
        let destination = Destination::Workload(offer.endpoints[0].cid);
        let connecting = self.endpoint.connect(destination, tls, "peer", ConnectionKind::Data).unwrap();
        timeout(SOON, connecting).await.unwrap().unwrap()
    }

    async fn hello(&self, connection: &Connection) {
        let (send, recv) = connection.open_bi().await.unwrap();
        let hello = DataHello {
            version: VersionInfo::current(),
            cluster: self.control.cluster().id,
            instance: self.control.workload(),
            direct: Vec::new(),
        };
        FrameWriter::new(send).send(&DataMessage::from(hello)).await.unwrap();
        let answer = FrameReader::new(recv).next::<DataMessage>().await.unwrap();
        assert!(matches!(answer, Some(DataMessage::Hello(_))), "{answer:?}");
    }
}

/// What the peer answers to a stream for `service`.
async fn ask(connection: &Connection, service: &str, port: u16) -> StreamAnswer {
    let (send, recv) = connection.open_bi().await.unwrap();
    let service = service.parse().unwrap();
    let header = StreamHeader { service, port, protocol: Protocol::Tcp, trace: None, deadline_ms: 0 };
    let mut writer = FrameWriter::new(send);
    writer.send(&DataMessage::from(header)).await.unwrap();
    match timeout(SOON, FrameReader::new(recv).next::<DataMessage>()).await.unwrap().unwrap() {
        Some(DataMessage::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_stream_is_judged_by_its_own_service_not_by_its_connection() {
    let mesh = Mesh::new("unexported");
    let (iad, phx) = mesh.pair(1);
    let (open, hidden) = (Service::echo(), Service::echo());
    let pay = mesh
        .sidecar(&phx, "pay")
        .serve("open.shop:80", open.addr())
        .serve("hidden.shop:80", hidden.addr())
        .start();
    mesh.ok(&["export", "open.shop", "--context", "phx"]);
    mesh.wait_offer("iad", "open.shop", "phx", 1);
    let gateway = Stolen::from_gateway(&iad.gateways[0].data_dir);

    runtime().block_on(async {
        let member = Member::join(&mesh, &iad).await;
        let offer = member.offer("open.shop").await;
        let connection = member.connect(&offer, &member.control.svid()).await;
        member.hello(&connection).await;
        let refused = |code: CloseCode| StreamAnswer::Refused(code.code());
        assert_eq!(ask(&connection, "hidden.shop", 80).await, refused(CloseCode::NotExported));
        assert_eq!(ask(&connection, "open.shop", 80).await, StreamAnswer::Accepted);
        assert_eq!(ask(&connection, "open.shop", 81).await, refused(CloseCode::PortUnknown));
        assert_eq!(ask(&connection, "hidden.shop", 81).await, refused(CloseCode::NotExported));
        // nor is a linked cluster told which services there are
        assert_eq!(ask(&connection, "nobody.shop", 80).await, refused(CloseCode::NotExported));

        // garbage ends its stream, not the connection
        for garbage in [&[0xff; 600][..], &[0, 0, 0, 4, 0, 1, 2, 3], &[0, 0, 0x20, 0, 0, 2, 0, 1]] {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(garbage).await.unwrap();
            let _ = send.finish();
            let end = timeout(SOON, recv.read_to_end(1 << 16)).await.expect("the stream ends");
            assert!(end.as_ref().map_or(true, Vec::is_empty), "{garbage:?}: {end:?}");
        }
        assert_eq!(ask(&connection, "open.shop", 80).await, StreamAnswer::Accepted);

        // a connection on which nobody says hello
        let silent = member.connect(&offer, &member.control.svid()).await;
        let end = timeout(SOON, silent.closed()).await.expect("it is closed");
        assert_eq!(close_reason(&end), "hello-timeout", "{end:?}");

        // a gateway's identity opens no streams
        let posing = member.connect(&offer, &gateway.svid).await;
        let end = timeout(SOON, posing.closed()).await.expect("it is closed");
        assert!(["wrong-role", "not-a-workload", "tls-failed"].contains(&close_reason(&end)), "{end:?}");
        member.tasks.shutdown(SOON).await.unwrap();
    });
    assert_eq!(hidden.taken(), 0, "the hidden service was reached");
    let record = pay.process.wait_access("the refused stream", |record| record["reason"] == "not-exported");
    assert_eq!(record["dst.service"], "hidden.shop", "{record}");
}

/// A socket that a gateway has admitted as that of an instance, as after a stolen key.
struct Rogue {
    socket: UdpSocket,
    gateway: SocketAddr,
    cluster: ClusterId,
    workload: WorkloadId,
    key: CidKey,
}

impl Rogue {
    /// Probes until the gateway has seen its cookie come back.
    fn admitted(joined: &Joined, gateway: &Gateway) -> Self {
        let attached = joined.attached();
        let socket = UdpSocket::bind((loopback(), 0)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let (cluster, secret) = (joined.cluster().id, &attached.probe_key);
        let mut cookie = [0; 16];
        for seq in 1..=2 {
            let probe = Probe {
                scope: ProbeScope::Workload,
                epoch_bits: secret.epoch.low_bits(),
                cluster,
                sender: attached.workload.0,
                seq,
                cookie,
                in_use: true,
                deaf: false,
            };
            socket.send_to(&probe.encode(&secret.key), gateway.overlay()).unwrap();
            let mut answer = [0; PROBE_LEN];
            assert_eq!(socket.recv(&mut answer).unwrap(), PROBE_LEN);
            assert!(verify(&answer, &secret.key), "the gateway's answer is signed");
            cookie = Answer::decode(&answer).unwrap().cookie;
        }
        let newest = attached.cid_keys.iter().max_by_key(|key| key.epoch).unwrap();
        let key = CidKey::new(newest.epoch, newest.key);
        Self { socket, gateway: gateway.overlay(), cluster, workload: attached.workload, key }
    }

    /// Sends a first flight to `to` that says it is from `from`.
    fn initial(&self, to: Cid, from: Cid) {
        let mut packet = vec![0xc3, 0, 0, 0, 1, 20];
        packet.extend_from_slice(&to.0);
        packet.push(20);
        packet.extend_from_slice(&from.0);
        packet.resize(1200, 0x55);
        self.socket.send_to(&packet, self.gateway).unwrap();
    }

    fn own(&self, nonce: u64) -> Cid {
        self.key.mint(self.cluster, self.workload, nonce)
    }
}

/// Sends until the counter of `reason` has grown: a rate limit or a queue may take some of it.
fn counted(gateway: &Gateway, reason: &str, send: impl Fn()) {
    let before = gateway.scrape().dropped(reason);
    wait_until(SOON, &format!("drops of {reason} are counted"), || {
        send();
        gateway.scrape().dropped(reason) > before
    });
}

#[test]
fn forged_ids_and_probes_are_dropped_and_counted_by_reason() {
    let mesh = Mesh::new("forged");
    let (iad, phx) = mesh.pair(1);
    let hidden = Service::echo();
    let victim = mesh.sidecar(&iad, "victim").serve("hidden.shop:80", hidden.addr()).start();
    let gateway = &iad.gateways[0];
    let workloads = mesh.json(&["workloads", "--context", "iad"]);
    let target = u64::from_str_radix(workloads[0]["id"].as_str().unwrap(), 16).unwrap();
    let joined = runtime().block_on(enrol(&mesh, &iad, "rogue"));
    let rogue = Rogue::admitted(&joined, gateway);
    let (cluster, key) = (rogue.cluster, rogue.key.clone());
    let victims = |nonce| key.mint(cluster, WorkloadId(target), nonce);

    // it speaks as somebody else
    counted(gateway, "foreign-source-id", || rogue.initial(victims(1), victims(2)));
    let elsewhere = ClusterId::new(0xabcdef).unwrap();
    counted(gateway, "foreign-source-id", || {
        rogue.initial(victims(1), Cid::gateway(elsewhere, NodeId(1), 2))
    });
    // it speaks to nobody
    counted(gateway, "unknown-workload", || {
        rogue.initial(rogue.key.mint(cluster, WorkloadId(!target), 1), rogue.own(2))
    });
    counted(gateway, "unknown-service", || {
        rogue.initial(Cid::service(cluster, ServiceHandle(1), 1), rogue.own(2))
    });
    counted(gateway, "unknown-gateway", || rogue.initial(Cid::gateway(cluster, NodeId(1), 1), rogue.own(2)));
    counted(gateway, "unknown-cluster", || {
        rogue.initial(Cid::service(elsewhere, ServiceHandle(1), 1), rogue.own(2))
    });
    // a service that the linked cluster does not export: refused there
    let phx_id = Stolen::from_gateway(&phx.gateways[0].data_dir).cluster.id;
    counted(&phx.gateways[0], "unknown-service", || {
        rogue.initial(Cid::service(phx_id, ServiceHandle(7), 1), rogue.own(2))
    });

    // nobody speaks
    let stranger = Rogue { socket: UdpSocket::bind((loopback(), 0)).unwrap(), ..rogue };
    counted(gateway, "unknown-source", || stranger.initial(victims(1), stranger.own(2)));
    for scope in [ProbeScope::Workload, ProbeScope::Sibling, ProbeScope::Link, ProbeScope::Direct] {
        for sender in [target, 0, u64::MAX] {
            let probe = Probe {
                scope,
                epoch_bits: 1,
                cluster,
                sender,
                seq: 1,
                cookie: [7; 16],
                in_use: true,
                deaf: false,
            };
            let forged = probe.encode(&[9; 32]);
            counted(gateway, "bad-probe", || {
                stranger.socket.send_to(&forged, stranger.gateway).unwrap();
            });
        }
    }
    // a forged probe has no answer
    stranger.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(stranger.socket.recv(&mut [0; 64]).is_err(), "a forged probe was answered");

    // and the victim has noticed nothing
    let row = &mesh.json(&["workloads", "--context", "iad"])[0];
    assert_eq!(
        (row["id"].as_str(), row["health"].as_str()),
        (workloads[0]["id"].as_str(), Some("healthy")),
        "{row}"
    );
    assert_eq!(hidden.taken(), 0);
    drop(victim);
}
