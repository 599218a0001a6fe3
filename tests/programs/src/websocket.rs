//! A WebSocket client that says things of several sizes, and a server that says them again (RFC 6455).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::{Message, accept, client};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(15);
/// The sizes of what is said, in bytes: within a frame's short length, its middle one, and its long one.
const SIZES: [usize; 4] = [5, 1_000, 70_000, 400_000];
/// How many small messages go to and fro one after the other.
const ROUNDS: u32 = 100;

/// Serves every connection in a thread of its own, for ever.
pub(crate) fn serve(addr: &str) -> io::Result<()> {
    for tcp in TcpListener::bind(addr)?.incoming() {
        let tcp = tcp?;
        std::thread::spawn(move || {
            if let Err(error) = say_again(tcp) {
                eprintln!("websocket: {error}");
            }
        });
    }
    Ok(())
}

fn say_again(tcp: TcpStream) -> io::Result<()> {
    let mut socket = accept(tcp).map_err(io::Error::other)?;
    loop {
        match socket.read() {
            Ok(said) if said.is_text() || said.is_binary() => socket.send(said).map_err(io::Error::other)?,
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Says things to `to`, which calls itself `name`, and hears them again.
pub(crate) fn talk(to: SocketAddr, name: &str) -> io::Result<()> {
    let tcp = TcpStream::connect_timeout(&to, LIMIT)?;
    tcp.set_read_timeout(Some(LIMIT))?;
    tcp.set_nodelay(true)?;
    let (mut socket, _) = client(format!("ws://{name}/chat"), tcp).map_err(io::Error::other)?;
    let mut round = |message: Message| {
        socket.send(message.clone()).map_err(io::Error::other)?;
        loop {
            match socket.read().map_err(io::Error::other)? {
                answer if answer == message => return Ok(()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => return Err(io::Error::other(format!("{} bytes came back", other.len()))),
            }
        }
    };
    for size in SIZES {
        round(Message::binary(vec![0x5a; size]))?;
    }
    let began = Instant::now();
    for number in 0..ROUNDS {
        round(Message::text(format!("message {number}")))?;
    }
    let each = began.elapsed() / ROUNDS;
    socket.close(None).map_err(io::Error::other)?;
    while socket.read().is_ok() {}
    println!(
        "{}",
        serde_json::json!({ "round_trip_us": u64::try_from(each.as_micros()).unwrap_or(u64::MAX) })
    );
    Ok(())
}
