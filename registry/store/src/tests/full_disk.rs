//! A disk that fails while it is used.

use super::mesh::{Mesh, init, port, set_port, until};
use crate::disk::Disk;
use crate::{Registry, RegistryRole, StoreConfig};
use causeway_model::NodeId;
use causeway_wire::peer::Method;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that can fill up.
#[derive(Debug)]
struct Filling {
    inner: InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl Filling {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Filling {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_part_that_the_node_takes_and_is_reported() {
    let full = Arc::new(AtomicBool::new(false));
    let backend = Filling { inner: InMemoryBackend::new(), full: full.clone() };
    let disk = Disk::on_backend(PathBuf::from("/state/registry.redb"), backend, NodeId(1));
    let config = StoreConfig::new("/state", NodeId(1));
    let registry = Registry::start(&config, disk, Arc::new(Mesh::default()).port(1)).await.unwrap();
    registry.initialise(init()).await.unwrap();
    registry.propose(set_port(2)).await.unwrap();

    full.store(true, Ordering::Relaxed);
    let error = registry.propose(set_port(3)).await.unwrap_err();
    assert_eq!(error.reason(), "registry-failed");
    for part in ["/state/registry.redb", "no storage space", "restart"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    until("the failure is published", || registry.failure().borrow().is_some()).await;
    assert_eq!(registry.failure().borrow().as_ref().unwrap().reason(), "disk");
    until("it is shown", || registry.status().role == RegistryRole::Stopped).await;
    assert_eq!(port(&registry), Some(2), "the last catalog stays readable");
    // space alone does not bring it back: it may have forgotten what it acknowledged
    full.store(false, Ordering::Relaxed);
    assert_eq!(registry.propose(set_port(4)).await.unwrap_err().reason(), "registry-failed");
    let refused = registry.handle_call(NodeId(2), Method::ReadIndex, vec![1]).await.unwrap_err();
    assert_eq!(refused.reason(), "registry-stopped");
}
