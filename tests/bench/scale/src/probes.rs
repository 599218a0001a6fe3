//! The probes of many played sidecars: each from a socket of its own, as often as its gateway lets it.

use causeway_model::{ClusterId, WorkloadId};
use causeway_wire::probe::{Answer, PROBE_LEN, Probe, ProbeScope};
use causeway_wire::view::ProbeSecret;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

/// How often a sidecar probes a gateway that it does not send to.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(10);

/// Whom to probe for.
#[derive(Clone)]
pub(crate) struct Probed {
    pub(crate) gateway: SocketAddr,
    pub(crate) cluster: ClusterId,
    pub(crate) workload: WorkloadId,
    pub(crate) secret: ProbeSecret,
}

struct Prober {
    socket: UdpSocket,
    of: Probed,
    seq: u64,
    cookie: [u8; 16],
    due: Instant,
}

/// Starts the thread that probes; it ends when the sender is dropped.
pub(crate) fn start() -> Sender<Probed> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || run(&receiver));
    sender
}

fn run(receiver: &Receiver<Probed>) {
    let mut probers: Vec<Prober> = Vec::new();
    loop {
        let now = Instant::now();
        loop {
            match receiver.try_recv() {
                Ok(of) => probers.push(Prober::new(of, probers.len(), now)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        probers.iter_mut().filter(|prober| prober.due <= now).for_each(|prober| prober.turn(now));
        std::thread::sleep(TICK.saturating_sub(now.elapsed()));
    }
}

impl Prober {
    fn new(of: Probed, number: usize, now: Instant) -> Self {
        let octet = |value: usize| u8::try_from(value).expect("less than 256");
        // addresses of their own: those that are not admitted share an allowance by address
        let ip = Ipv4Addr::new(127, 18, octet(number / 250), octet(1 + number % 250));
        let socket = UdpSocket::bind((ip, 0)).expect("a free port");
        socket.connect(of.gateway).expect("the gateway's address");
        socket.set_nonblocking(true).expect("a socket that does not wait");
        Self { socket, of, seq: 0, cookie: [0; 16], due: now }
    }

    /// Takes the answer to the last probe, and sends the next one.
    fn turn(&mut self, now: Instant) {
        let mut interval = INTERVAL;
        let mut bytes = [0; PROBE_LEN];
        while let Ok(PROBE_LEN) = self.socket.recv(&mut bytes) {
            if let Some(answer) = Answer::decode(&bytes) {
                self.cookie = answer.cookie;
                interval = interval.max(Duration::from_millis(answer.interval_ms.into()));
            }
        }
        self.seq += 1;
        // the second one, with the cookie, follows at once
        self.due = now + if self.seq == 1 { TICK } else { interval };
        let probe = Probe {
            scope: ProbeScope::Workload,
            epoch_bits: self.of.secret.epoch.low_bits(),
            cluster: self.of.cluster,
            sender: self.of.workload.0,
            seq: self.seq,
            cookie: self.cookie,
            in_use: false,
            deaf: false,
        };
        // a probe that is lost is followed by another one
        let _ = self.socket.send(&probe.encode(&self.of.secret.key));
    }
}
