//! Applications of a test: TCP services in this process, a thread for each connection.

use rustix::net::sockopt::set_socket_linger;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A listening application, on 127.0.0.1 unless said otherwise. It takes no more connections once it is dropped.
#[derive(Debug)]
pub struct Service {
    addr: SocketAddr,
    taken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Service {
    /// An application that does `handle` with each connection; an error of it is the end of that connection only.
    pub fn tcp(handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::tcp_at((Ipv4Addr::LOCALHOST, 0).into(), handle)
    }

    /// The same at an address.
    pub fn tcp_at(
        addr: SocketAddr,
        handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
        let addr = listener.local_addr().expect("a bound listener has an address");
        let (taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let service = Self { addr, taken: taken.clone(), stop: stop.clone() };
        let handle = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                taken.fetch_add(1, Ordering::Relaxed);
                let handle = Arc::clone(&handle);
                // what a peer does to its connection is judged where it is seen: at the client
                std::thread::spawn(move || drop(handle(stream)));
            }
        });
        service
    }

    /// An HTTP server that answers `GET /` with `name`, `GET /bytes/N` with N bytes, and keeps connections.
    pub fn http(name: &str) -> Self {
        Self::http_at((Ipv4Addr::LOCALHOST, 0).into(), name)
    }

    /// The same at an address.
    pub fn http_at(addr: SocketAddr, name: &str) -> Self {
        let name = name.to_owned();
        Self::tcp_at(addr, move |stream| serve_http(stream, &name))
    }

    /// Says back what it is told.
    pub fn echo() -> Self {
        Self::tcp(|mut stream| io::copy(&mut stream.try_clone()?, &mut stream).map(drop))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // wakes the listener, which then ends; if that fails it ends with the test
        let _ = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
    }
}

fn serve_http(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.by_ref().take(8192).read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut close = false;
        loop {
            let mut line = String::new();
            reader.by_ref().take(8192).read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            close |= line.to_ascii_lowercase().trim() == "connection: close";
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        answer(&mut writer, path, name)?;
        if close {
            return Ok(());
        }
    }
}

fn answer(writer: &mut TcpStream, path: &str, name: &str) -> io::Result<()> {
    let path = path.split('?').next().unwrap_or_default();
    let Some(size) = path.strip_prefix("/bytes/").and_then(|size| size.parse::<usize>().ok()) else {
        return writer.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()).as_bytes(),
        );
    };
    writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
    let chunk = [0x5a; 64 << 10];
    let mut left = size;
    while left > 0 {
        let now = left.min(chunk.len());
        writer.write_all(&chunk[..now])?;
        left -= now;
    }
    Ok(())
}

/// Ends a connection with a TCP reset.
pub fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket can be told not to linger");
    drop(stream);
}
