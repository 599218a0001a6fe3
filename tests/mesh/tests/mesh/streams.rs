//! A connection through the mesh behaves as a plain TCP socket does.

use causeway_test_mesh::{Cluster, Mesh, SOON, Service, Sidecar, reset, wait_until};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "peer.test:80";

/// An application in phx and a client's sidecar in iad.
struct Path {
    _clusters: (Cluster, Cluster),
    server: Sidecar,
    client: Sidecar,
    _service: Service,
}

impl Path {
    fn to(name: &str, service: Service) -> Self {
        let mesh = Mesh::new(name);
        let (iad, phx) = mesh.pair(1);
        let server = mesh.sidecar(&phx, "server").serve(SERVICE, service.addr()).start();
        let client = mesh.sidecar(&iad, "client").listen(SERVICE).start();
        mesh.ok(&["export", "peer.test", "--context", "phx"]);
        mesh.wait_offer("iad", "peer.test", "phx", 1);
        Self { _clusters: (iad, phx), server, client, _service: service }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.client.addr(SERVICE)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }
}

/// A service that tells the test what became of each connection.
fn reporting<T: Send + 'static>(
    handle: impl Fn(TcpStream) -> T + Send + Sync + 'static,
) -> (Service, Receiver<T>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let service = Service::tcp(move |stream| {
        stream.set_read_timeout(Some(SOON))?;
        let what = handle(stream);
        tell.lock().unwrap().send(what).map_err(|_| io::Error::other("the test has ended"))
    });
    (service, told)
}

fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all)
}

#[test]
fn either_side_may_finish_first_and_go_on_listening() {
    const LONG: usize = 300_000;
    let (service, told) = reporting(|mut stream| {
        let mut first = [0];
        stream.read_exact(&mut first)?;
        if first[0] == b'c' {
            // the client finishes first, then we speak
            let heard = read_all(&mut stream)?.len();
            stream.write_all(&vec![b's'; LONG])?;
            return Ok::<usize, io::Error>(heard);
        }
        // we finish first, then the client speaks
        stream.write_all(&vec![b's'; LONG])?;
        stream.shutdown(Shutdown::Write)?;
        Ok(read_all(&mut stream)?.len())
    });
    let path = Path::to("half-close", service);

    let mut stream = path.connect();
    stream.write_all(&vec![b'c'; LONG]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap().len(), LONG, "what the server says after the client's FIN");
    assert_eq!(told.recv_timeout(SOON).unwrap().unwrap(), LONG - 1);

    let mut stream = path.connect();
    stream.write_all(b"s").unwrap();
    assert_eq!(read_all(&mut stream).unwrap().len(), LONG);
    stream.write_all(&vec![b'c'; LONG]).unwrap();
    drop(stream);
    assert_eq!(
        told.recv_timeout(SOON).unwrap().unwrap(),
        LONG,
        "what the client says after the server's FIN"
    );

    for sidecar in [&path.client, &path.server] {
        let name = sidecar.process.name();
        wait_until(SOON, &format!("{name} logs both connections"), || sidecar.process.access().len() == 2);
        let log = sidecar.process.access();
        assert!(log.iter().all(|record| record["reason"] == "done"), "{name}: {log:?}");
    }
}

#[test]
fn a_reset_arrives_as_a_reset() {
    let (service, told) = reporting(|mut stream| {
        let mut word = [0; 5];
        stream.read_exact(&mut word)?;
        if &word == b"reset" {
            reset(stream);
            return Ok(());
        }
        stream.write_all(b"ready")?;
        stream.read_exact(&mut [0])
    });
    let path = Path::to("reset", service);

    let mut stream = path.connect();
    stream.write_all(b"reset").unwrap();
    assert_eq!(read_all(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset, "the server's reset");
    told.recv_timeout(SOON).unwrap().unwrap();

    let mut stream = path.connect();
    stream.write_all(b"stays").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    reset(stream);
    let end = told.recv_timeout(SOON).unwrap().unwrap_err().kind();
    assert_eq!(end, ErrorKind::ConnectionReset, "the client's reset");

    let record = path.server.process.wait_access("a reset", |record| record["reason"] == "tcp-reset");
    assert_eq!(record["direction"], "inbound", "{record}");
}

/// Eight bytes that say where they are.
fn word(at: u64) -> [u8; 8] {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

#[test]
fn a_reader_that_stalls_stops_the_writer_and_bounds_memory() {
    const TOTAL: u64 = 64 << 20;
    const AHEAD: u64 = 24 << 20;
    const BLOCK: usize = 64 << 10;
    let (go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let (service, told) = reporting(move |mut stream| {
        wait.lock().unwrap().recv().map_err(io::Error::other)?;
        let (mut block, mut at) = (vec![0; BLOCK], 0);
        while at < TOTAL {
            stream.read_exact(&mut block)?;
            let (words, _) = block.as_chunks::<8>();
            let wrong = words.iter().zip(at / 8..).find(|(got, index)| **got != word(*index));
            assert!(wrong.is_none(), "near byte {at}: {wrong:?}");
            at += BLOCK as u64;
        }
        stream.write_all(b"all")?;
        Ok::<u64, io::Error>(at)
    });
    let path = Path::to("back-pressure", service);
    let before = [&path.client, &path.server].map(|sidecar| sidecar.process.resident());

    let mut stream = path.connect();
    stream.set_nonblocking(true).unwrap();
    let block = |at: u64| (at / 8..).take(BLOCK / 8).flat_map(word).collect::<Vec<u8>>();
    let (mut sent, mut pending, mut told_to_go) = (0, block(0), false);
    let mut progress = Instant::now();
    while sent < TOTAL {
        match stream.write(&pending) {
            Ok(taken) => {
                sent += taken as u64;
                pending.drain(..taken);
                if pending.is_empty() {
                    pending = block(sent);
                }
                progress = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !told_to_go && progress.elapsed() > Duration::from_secs(2) {
                    // nothing was taken for two seconds: the pipe is full
                    assert!(sent < AHEAD, "the mesh took {sent} bytes that nobody reads");
                    for (sidecar, before) in [&path.client, &path.server].into_iter().zip(before) {
                        let grown = sidecar.process.resident().saturating_sub(before);
                        assert!(grown < AHEAD, "{} grew by {grown} bytes", sidecar.process.name());
                    }
                    go.send(()).unwrap();
                    told_to_go = true;
                }
                assert!(progress.elapsed() < SOON, "stuck after {sent} bytes, told to go: {told_to_go}");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    assert!(told_to_go, "the writer was never stopped");
    assert_eq!(told.recv_timeout(SOON).unwrap().unwrap(), TOTAL);
    stream.set_nonblocking(false).unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"all");
}
