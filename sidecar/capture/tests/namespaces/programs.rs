//! The programs at work: servers that say who they are, and applications that know nothing of a mesh. Servers live until the end of
//! the test process; their sockets keep the namespace that they were made in.

use causeway_capture::original_destination;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Answers every connection to `addr` with `name`.
pub(crate) fn serve(addr: &str, name: &'static str) {
    let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    thread::spawn(move || {
        for tcp in listener.incoming() {
            tcp.unwrap().write_all(name.as_bytes()).unwrap();
        }
    });
}

/// Answers every connection to `addr` with where it was meant to go.
pub(crate) fn serve_captured(addr: &str) {
    let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let said = match original_destination(&tcp) {
                Ok(original) => format!("captured {original}"),
                Err(error) => format!("not captured: {:?}", error.kind()),
            };
            tcp.write_all(said.as_bytes()).unwrap();
        }
    });
}

/// Answers every datagram to `addr` with `name`.
pub(crate) fn serve_udp(addr: &str, name: &'static str) {
    let socket = UdpSocket::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            // what a closed port sends back is an error of the next call
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        }
    });
}

/// Connects and reads to the end.
pub(crate) fn ask(addr: &str) -> io::Result<String> {
    let mut tcp = TcpStream::connect_timeout(&addr.parse().unwrap(), DEADLINE)?;
    tcp.set_read_timeout(Some(DEADLINE))?;
    let mut text = String::new();
    tcp.read_to_string(&mut text)?;
    Ok(text)
}

/// Sends a datagram and waits for the answer, which the kernel takes from that address only.
pub(crate) fn ask_udp(addr: &str) -> io::Result<String> {
    let socket = application_udp(addr);
    socket.send(b"ping")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A socket that is connected to `addr`.
pub(crate) fn application_udp(addr: &str) -> UdpSocket {
    let addr: SocketAddr = addr.parse().unwrap();
    let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    socket
}

/// A connection that stands, with both ends.
pub(crate) struct Standing {
    client: TcpStream,
    server: TcpStream,
}

impl Standing {
    pub(crate) fn new(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) -> Self {
        let client = connect();
        let (server, _) = listener.accept().unwrap();
        for tcp in [&client, &server] {
            tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        Self { client, server }
    }

    /// Sends a byte each way.
    #[track_caller]
    pub(crate) fn works(&mut self) {
        let mut byte = [0];
        self.client.write_all(b"a").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        self.server.write_all(b"b").unwrap();
        self.client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b");
    }
}
