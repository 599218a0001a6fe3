//! Applications that know nothing of a mesh: a WebSocket client and server, and a stream of datagrams with its echo. They find each
//! other by the name that they are given, as the system resolves it.
//!
//! Exit code 0 says that everything came back; what was measured is one line of JSON on standard output.

mod datagrams;
mod websocket;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

const USAGE: &str = "causeway-test-application websocket-server IP:PORT | websocket NAME:PORT 4|6 | \
                     datagrams-echo IP:PORT | datagrams NAME:PORT 4|6 BYTES PACKETS-PER-SECOND SECONDS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["websocket-server", addr] => websocket::serve(addr),
        ["websocket", addr, family] => find(addr, family).and_then(|to| websocket::talk(to, addr)),
        ["datagrams-echo", addr] => datagrams::echo(addr),
        ["datagrams", addr, family, bytes, rate, seconds] => {
            find(addr, family).and_then(|to| datagrams::send(to, [bytes, rate, seconds]))
        }
        _ => Err(io::Error::other(USAGE)),
    };
    if let Err(error) = done {
        eprintln!("{}: {error}", args.join(" "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The first address of that family.
fn find(name: &str, family: &str) -> io::Result<SocketAddr> {
    let mut all = name.to_socket_addrs()?;
    all.find(|addr| addr.is_ipv4() == (family == "4"))
        .ok_or_else(|| io::Error::other(format!("{name} has no IPv{family} address")))
}
