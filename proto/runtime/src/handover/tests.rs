//! Two halves in one process: what is handed over works, and what fails leaves everything as it was.

use super::*;
use crate::bind_tcp;
use crate::files::lock_dir;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// A process that runs: its folder, its sockets, and the wait for its successor.
struct Old {
    dir: TempDir,
    listen: SocketAddr,
    udp: SocketAddr,
    handing: JoinHandle<Successor>,
}

fn old(more: usize) -> Old {
    let dir = tempfile::tempdir().unwrap();
    let offers = Offers::new(Arc::new(lock_dir(dir.path()).unwrap()));
    let listener = bind_tcp("test", "--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (listen, udp) = (listener.local_addr().unwrap(), datagrams.local_addr().unwrap());
    offers.add("listen pay.shop".to_owned(), Socket::Tcp(listener));
    offers.add("dns".to_owned(), Socket::Udp(datagrams));
    for count in 0..more {
        let other = bind_tcp("test", "--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        offers.add(format!("other {count}"), Socket::Tcp(other));
    }
    let handing = HandoverListener::bind(dir.path()).unwrap();
    let handing = tokio::spawn(async move { handing.hand_over(&offers).await });
    Old { listen, udp, handing, dir }
}

async fn take(old: &Old) -> Predecessor {
    timeout(SOON, take_over(old.dir.path())).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn a_listener_goes_over_with_what_waits_in_it() {
    let old = old(0);
    // waits in the queue, for nobody accepts yet
    let mut client = TcpStream::connect(old.listen).unwrap();
    client.write_all(b"early").unwrap();
    let mut taken = take(&old).await;
    assert_eq!(taken.pid(), std::process::id());
    let lock = taken.lock(old.dir.path()).unwrap();
    let listener = taken.tcp("listen pay.shop", "127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(taken.tcp("listen pay.shop", "127.0.0.1:0".parse().unwrap()).is_none(), "once only");
    let datagrams = taken.udp("another name", old.udp).unwrap();
    assert_eq!(datagrams.local_addr().unwrap(), old.udp);
    assert!(!old.handing.is_finished());
    timeout(SOON, taken.confirm()).await.unwrap();
    let successor = timeout(SOON, old.handing).await.unwrap().unwrap();
    assert_eq!(successor.pid, std::process::id());
    // the old one's handle of the lock is gone, and the folder is still locked
    lock.sign().unwrap();
    assert_eq!(lock_dir(old.dir.path()).unwrap_err().reason(), "dir_in_use");
    listener.set_nonblocking(false).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut said = [0; 5];
    accepted.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"early");
    drop(lock);
    lock_dir(old.dir.path()).unwrap();
}

#[tokio::test]
async fn who_ends_before_it_is_ready_leaves_the_old_one_as_it_was() {
    let old = old(0);
    for _ in 0..3 {
        let mut taken = take(&old).await;
        let lock = taken.lock(old.dir.path()).unwrap();
        drop((taken, lock));
    }
    assert_eq!(lock_dir(old.dir.path()).unwrap_err().reason(), "dir_in_use");
    TcpStream::connect(old.listen).unwrap();
    timeout(SOON, take(&old).await.confirm()).await.unwrap();
    timeout(SOON, old.handing).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_at_a_time_takes_over() {
    let old = old(0);
    let first = take(&old).await;
    let error = timeout(SOON, take_over(old.dir.path())).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), "handover_refused");
    assert!(error.to_string().contains(&format!("process {} is taking over", std::process::id())), "{error}");
    timeout(SOON, first.confirm()).await.unwrap();
    timeout(SOON, old.handing).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_sockets_go_over_and_those_that_nobody_takes_are_closed() {
    let old = old(200);
    let mut taken = take(&old).await;
    assert_eq!(taken.left().count(), 202);
    let kept = taken.tcp("other 150", "127.0.0.1:0".parse().unwrap()).unwrap();
    timeout(SOON, taken.confirm()).await.unwrap();
    timeout(SOON, old.handing).await.unwrap().unwrap();
    TcpStream::connect(kept.local_addr().unwrap()).unwrap();
    let refused = TcpStream::connect(old.listen).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn what_is_not_offered_any_more_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let offers = Offers::new(Arc::new(lock_dir(dir.path()).unwrap()));
    let listening = || bind_tcp("test", "--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let (first, second) = (listening(), listening());
    let addrs = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    offers.add("first".to_owned(), Socket::Tcp(first));
    offers.add("second".to_owned(), Socket::Tcp(second));
    offers.add("x".repeat(MAX_NAME + 1), Socket::Tcp(listening()));
    offers.remove("first");
    assert!(TcpStream::connect(addrs[0]).is_err() && TcpStream::connect(addrs[1]).is_ok());
    offers.clear();
    assert!(TcpStream::connect(addrs[1]).is_err());
    // one that is bound while the process ends
    let late = listening();
    let addr = late.local_addr().unwrap();
    offers.add("late".to_owned(), Socket::Tcp(late));
    assert!(TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn without_a_process_there_is_nothing_to_take() {
    let dir = tempfile::tempdir().unwrap();
    assert!(take_over(dir.path()).await.unwrap().is_none());
    assert!(take_over(&dir.path().join("none")).await.unwrap().is_none());
    // one that crashed left its socket
    drop(HandoverListener::bind(dir.path()).unwrap());
    assert!(dir.path().join(SOCKET).exists());
    assert!(take_over(dir.path()).await.unwrap().is_none());
    HandoverListener::bind(dir.path()).unwrap().remove();
    assert!(!dir.path().join(SOCKET).exists());
}

#[tokio::test]
async fn the_socket_is_private_and_a_path_that_is_too_long_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = HandoverListener::bind(dir.path()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let long = dir.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let error = HandoverListener::bind(&long).unwrap_err();
    assert!(error.to_string().contains("handover.sock"), "{error}");
}

#[tokio::test]
async fn what_is_said_wrongly_ends_the_conversation_only() {
    let old = old(0);
    let rude = channel::Channel::connect(&old.dir.path().join(SOCKET)).unwrap().unwrap();
    rude.send(&"what?", &[]).await.unwrap();
    assert!(timeout(SOON, rude.receive::<message::FromPredecessor>()).await.unwrap().unwrap().is_none());
    let later = channel::Channel::connect(&old.dir.path().join(SOCKET)).unwrap().unwrap();
    later.send(&message::FromSuccessor::Hello { version: 99 }, &[]).await.unwrap();
    let heard = timeout(SOON, later.receive::<message::FromPredecessor>()).await.unwrap().unwrap().unwrap();
    assert!(matches!(heard.0, message::FromPredecessor::Refused { .. }), "{heard:?}");
    drop(later);
    timeout(SOON, take(&old).await.confirm()).await.unwrap();
    timeout(SOON, old.handing).await.unwrap().unwrap();
}
