//! A steady stream of datagrams, as of a camera or a call, and an echo.

use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the last ones may be on their way.
const REST: Duration = Duration::from_secs(1);
/// The socket's buffer, so that nothing is lost at the ends, whoever has the cores.
const BUFFER: usize = 8 << 20;

/// A socket with room.
fn socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Sends everything back, for ever.
pub(crate) fn echo(addr: &str) -> io::Result<()> {
    let addr: SocketAddr = addr.parse().map_err(io::Error::other)?;
    let socket = socket(addr)?;
    let mut buffer = vec![0; 65_536];
    loop {
        // what a closed port answers is an error of the next call
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Err(error) = socket.send_to(&buffer[..length], from) {
            eprintln!("datagrams: {from}: {error}");
        }
    }
}

/// Sends datagrams of `bytes` at a steady `rate` for `seconds`, and counts those that come back.
pub(crate) fn send(to: SocketAddr, numbers: [&str; 3]) -> io::Result<()> {
    let mut read = [0; 3];
    for (number, text) in read.iter_mut().zip(numbers) {
        *number = text.parse::<u32>().map_err(io::Error::other)?;
    }
    let [bytes, rate, seconds] = read;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = Arc::new(socket(any.parse().map_err(io::Error::other)?)?);
    socket.connect(to)?;
    let over = Arc::new(AtomicBool::new(false));
    let heard = {
        let (socket, over) = (Arc::clone(&socket), Arc::clone(&over));
        thread::spawn(move || hear(&socket, bytes, &over))
    };
    let total = rate.saturating_mul(seconds);
    let began = Instant::now();
    let mut packet = vec![0x5a; bytes.max(4) as usize];
    for number in 0..total {
        let due = began + Duration::from_secs(1) * number / rate.max(1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        packet[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&packet)?;
    }
    let took = began.elapsed();
    thread::sleep(REST);
    over.store(true, Ordering::Relaxed);
    let back = heard.join().map_err(|_| io::Error::other("the receiver failed"))??;
    println!(
        "{}",
        serde_json::json!({ "sent": total, "back": back, "per_second": f64::from(total) / took.as_secs_f64() })
    );
    Ok(())
}

/// How many different packets come back, each as it was sent.
fn hear(socket: &UdpSocket, bytes: u32, over: &AtomicBool) -> io::Result<usize> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut buffer, mut seen) = (vec![0; 65_536], HashSet::new());
    while !over.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) if length == bytes as usize => {
                seen.insert(buffer[..4].to_owned());
            }
            Ok(length) => return Err(io::Error::other(format!("{length} bytes came back of {bytes}"))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen.len())
}
