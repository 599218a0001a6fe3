//! What a gateway could tell: neither the packets at its port nor its memory hold a byte of what passes through.

use causeway_test_mesh::{Mesh, SOON, Service, skip, wait_until};
use rand::RngExt;
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// So many consecutive bytes of the marker are a finding.
const PART: usize = 8;

/// Looks for any part of a marker.
#[derive(Clone)]
struct Finder {
    parts: Vec<[u8; PART]>,
    /// Whether any part begins with these two bytes: spares most comparisons.
    begins: Arc<[bool]>,
}

impl Finder {
    fn new(marker: &[u8]) -> Self {
        let parts: Vec<[u8; PART]> = marker.windows(PART).map(|part| part.try_into().unwrap()).collect();
        let mut begins = vec![false; 1 << 16];
        parts.iter().for_each(|part| begins[Self::begin(part)] = true);
        Self { parts, begins: begins.into() }
    }

    fn begin(part: &[u8]) -> usize {
        usize::from(u16::from_be_bytes([part[0], part[1]]))
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        bytes
            .windows(PART)
            .any(|window| self.begins[Self::begin(window)] && self.parts.iter().any(|part| part == window))
    }
}

/// Whether a process' writable memory holds a part of the marker, and how many bytes were looked at.
fn search_memory(pid: u32, finder: &Finder) -> io::Result<(bool, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut found, mut seen) = (false, 0);
    let mut block = vec![0; (1 << 20) + PART];
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        while at < end {
            let want = usize::try_from((end - at).min(block.len() as u64)).unwrap();
            // a page may be gone since, or be the kernel's own
            let Ok(read) = memory.read_at(&mut block[..want], at) else { break };
            found |= finder.is_in(&block[..read]);
            seen += read as u64;
            // the last bytes are looked at again, so that no part is cut in two
            at += if read > PART && at + (read as u64) < end { read - PART } else { read.max(1) } as u64;
        }
    }
    Ok((found, seen))
}

/// What a capture on the loopback interface has seen.
#[derive(Default)]
struct Seen {
    overlay: AtomicU64,
    overlay_found: AtomicU64,
    plain_found: AtomicU64,
}

/// Looks at every packet on the machine until it is told to stop: `ports` are the gateways'.
fn capture(
    finder: Finder,
    ports: Vec<SocketAddr>,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
) -> io::Result<std::thread::JoinHandle<()>> {
    /// ETH_P_IP, in network byte order.
    const IPV4: i32 = 0x0800_u16.to_be() as i32;
    let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(IPV4)))?;
    socket.set_recv_buffer_size(8 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(std::thread::spawn(move || {
        let mut packet = vec![0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            let Ok(len) = socket.read(&mut packet) else { continue };
            let Some((kind, addresses, payload)) = parse(&packet[..len]) else { continue };
            let of_gateway = addresses.iter().any(|addr| ports.contains(addr));
            let found = u64::from(finder.is_in(payload));
            match kind {
                17 if of_gateway => {
                    seen.overlay.fetch_add(1, Ordering::Relaxed);
                    seen.overlay_found.fetch_add(found, Ordering::Relaxed);
                }
                6 => drop(seen.plain_found.fetch_add(found, Ordering::Relaxed)),
                _ => {}
            }
        }
    }))
}

/// The protocol, the two addresses and the payload of an IPv4 packet.
fn parse(packet: &[u8]) -> Option<(u8, [SocketAddr; 2], &[u8])> {
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let kind = *packet.get(9)?;
    let payload = packet.get(header..)?;
    let ports: &[u8; 4] = payload.first_chunk()?;
    let ip = |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((kind, [(ip(12)?, port(0)).into(), (ip(16)?, port(2)).into()], payload))
}

#[test]
fn neither_the_wire_nor_a_gateways_memory_holds_what_is_carried() {
    let mesh = Mesh::new("secrecy");
    let (iad, phx) = mesh.pair(1);
    let echo = Service::echo();
    // takes no byte and keeps the connection, so that what is sent waits in the mesh
    let stalled = Service::tcp(|stream| {
        std::thread::sleep(Duration::from_secs(120));
        drop(stream);
        Ok(())
    });
    let pay = mesh
        .sidecar(&phx, "pay")
        .serve("echo.test:80", echo.addr())
        .serve("stalled.test:80", stalled.addr())
        .start();
    let web = mesh.sidecar(&iad, "web").listen("echo.test:80").listen("stalled.test:80").start();
    for service in ["echo.test", "stalled.test"] {
        mesh.ok(&["export", service, "--context", "phx"]);
        mesh.wait_offer("iad", service, "phx", 1);
    }
    let mut marker = [0; 32];
    rand::rng().fill(&mut marker);
    let finder = Finder::new(&marker);
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let ports = vec![iad.gateways[0].overlay(), phx.gateways[0].overlay()];
    let capturing = capture(finder.clone(), ports, seen.clone(), stop.clone());

    let block = marker.repeat(2048);
    let mut stream = TcpStream::connect(web.addr("echo.test:80")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for _ in 0..30 {
        stream.write_all(&block).unwrap();
        let mut back = vec![0; block.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == block, "the echo is another one");
    }
    let mut full = TcpStream::connect(web.addr("stalled.test:80")).unwrap();
    full.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let end = (0..1000).find_map(|_| full.write_all(&block).err());
    assert_eq!(end.map(|error| error.kind()), Some(ErrorKind::WouldBlock), "the pipe fills");

    match capturing {
        Ok(thread) => {
            // that the search works is shown by the application's own connections, which are plain
            wait_until(SOON, "the capture sees both", || {
                seen.plain_found.load(Ordering::Relaxed) > 0 && seen.overlay.load(Ordering::Relaxed) > 100
            });
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
            assert_eq!(
                seen.overlay_found.load(Ordering::Relaxed),
                0,
                "packets at a gateway's port hold the marker"
            );
        }
        Err(error) => skip("secrecy (capture at the gateways' ports)", &format!("no packet socket: {error}")),
    }
    match search_memory(iad.gateways[0].process.pid(), &finder) {
        Ok((found, looked)) => {
            assert!(looked > 1 << 20, "only {looked} bytes of the gateway's memory were seen");
            assert!(!found, "the memory of {} holds the marker", iad.gateways[0].process.name());
            let (found, _) = search_memory(phx.gateways[0].process.pid(), &finder).unwrap();
            assert!(!found, "the memory of {} holds the marker", phx.gateways[0].process.name());
            // that the search works is shown by a sidecar, which holds what nobody reads
            let (found, looked) = search_memory(pay.process.pid(), &finder).unwrap();
            assert!(found, "a sidecar that holds the marker was not found out in {looked} bytes");
        }
        Err(error) => {
            skip("secrecy (memory of the gateways)", &format!("/proc/PID/mem cannot be read: {error}"))
        }
    }
}
