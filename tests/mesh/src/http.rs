//! A small HTTP/1.1 client: one request a connection, as `curl` makes it.

use crate::SOON;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET PATH` at `addr`.
///
/// # Errors
/// What the connection says; a body that is cut short is one, too.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&addr, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("not a whole answer ({} bytes): {shown:?}", answer.len()),
        )
    })
}

fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let body = &answer[end + 4..];
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    // chunked bodies are none of ours: every server here says how long its answer is
    (length? == body.len()).then(|| Response { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_is_one() {
        let answer = parse(b"HTTP/1.1 503 Busy\r\ncontent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((answer.status, answer.text()), (503, "no".to_owned()));
        for cut in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno",
            "HTTP/1.1 200 OK\r\n",
            "",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(parse(cut.as_bytes()).is_none(), "{cut}");
        }
    }
}
