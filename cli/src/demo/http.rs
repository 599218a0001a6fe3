//! The demo's HTTP client: `GET` over a plain TCP connection that stays open, with the body in the pieces in which it arrives.
//!
//! It speaks to the demo's own services and to readiness endpoints: bodies have a length, or end with the connection.

use anyhow::{Context, Result, anyhow, bail};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a whole small request may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest head of an answer, in bytes.
const MAX_HEAD: u64 = 16 * 1024;
/// The longest body that is read as a whole, in bytes.
const MAX_BODY: u64 = 1024 * 1024;
/// What a connection reads ahead, in bytes, unless it says otherwise.
const BUFFER: usize = 4 * 1024;

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The length of the body, in bytes; nothing if it ends with the connection.
    length: Option<u64>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A connection for one request after another.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> Result<Self> {
        Self::open_with(to, BUFFER).await
    }

    /// One that reads up to `buffer` bytes at once.
    pub(super) async fn open_with(to: SocketAddr, buffer: usize) -> Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(to))
            .await
            .map_err(|_| anyhow!("no connection to {to} within {LIMIT:?}"))?;
        let stream = stream.with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(buffer, stream), host: to })
    }

    /// Asks, and reads the head of the answer.
    pub(super) async fn begin(&mut self, path: &str) -> Result<Head> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await.context("cannot send the request")?;
        let mut head = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_HEAD);
        while !head.ends_with(b"\r\n\r\n") {
            let read = limited.read_until(b'\n', &mut head).await.context("the answer broke off")?;
            if read == 0 {
                bail!("the connection ended after {} bytes of the answer's head", head.len());
            }
        }
        parse_head(&head)
    }

    /// The next piece of a body; empty when the connection has ended.
    pub(super) async fn piece(&mut self, left: u64) -> Result<&[u8]> {
        // what is used is given back before the next piece is asked for
        let piece = self.stream.fill_buf().await.context("the body broke off")?;
        let len = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        Ok(&piece[..len])
    }

    /// This much of the piece was used.
    pub(super) fn used(&mut self, len: usize) {
        self.stream.consume(len);
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer> {
        let within = timeout(LIMIT, self.whole(path)).await;
        within.map_err(|_| anyhow!("GET {path} from {}: no answer within {LIMIT:?}", self.host))?
    }

    async fn whole(&mut self, path: &str) -> Result<Answer> {
        let head = self.begin(path).await?;
        let length = head.length.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            bail!("GET {path}: a body of {length} bytes is too long to be read as a whole");
        }
        let mut body = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut body).await.context("the body broke off")?;
        if head.length.is_some_and(|length| length != body.len() as u64) {
            bail!("the body ended after {} of {length} bytes", body.len());
        }
        Ok(Answer { status: head.status, body })
    }
}

/// One request on a connection of its own.
pub(super) async fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    Connection::open(to).await?.get(path).await
}

/// What a request for people answers: the text, if the status is 200.
pub(super) async fn text(to: SocketAddr, path: &str) -> Result<String> {
    let answer = get(to, path).await?;
    let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
    if answer.status == 200 {
        Ok(text)
    } else {
        Err(anyhow!("http://{to}{path}: HTTP {}: {text}", answer.status))
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head> {
    let text = std::str::from_utf8(bytes).context("the answer's head is not text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| anyhow!("no HTTP answer: {first:?}"))?;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().with_context(|| format!("content-length {value:?}"))?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("the answer has transfer-encoding {value}, which is not expected");
        }
    }
    Ok(Head { status, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn heads_are_read() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert_eq!(head, Head { status: 200, length: Some(12) });
        assert_eq!(parse_head(b"HTTP/1.0 503 \r\n\r\n").unwrap(), Head { status: 503, length: None });
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(parse_head(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    async fn served(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        addr
    }

    #[tokio::test]
    async fn a_connection_takes_one_request_after_another() {
        let addr = served(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\ntwo",
        ])
        .await;
        let mut connection = Connection::open(addr).await.unwrap();
        assert_eq!(connection.get("/").await.unwrap(), Answer { status: 200, body: b"one".to_vec() });
        assert_eq!(connection.get("/").await.unwrap(), Answer { status: 404, body: b"two".to_vec() });
        assert!(connection.get("/").await.is_err());
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error() {
        for answer in [&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"], &["HTTP/1.1 20"]] {
            let addr = served(answer).await;
            assert!(get(addr, "/").await.is_err(), "{answer:?}");
        }
        let addr = served(&["HTTP/1.1 503 Not ready\r\ncontent-length: 4\r\n\r\nwait"]).await;
        assert!(text(addr, "/ready").await.unwrap_err().to_string().ends_with("HTTP 503: wait"));
    }
}
