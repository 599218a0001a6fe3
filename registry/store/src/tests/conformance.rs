//! openraft's own suite for stores.

use crate::disk::Disk;
use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::raft::{StorageError, TypeConfig};
use crate::replica::Replica;
use causeway_model::NodeId;
use openraft::testing::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), NodeId(1)).await.unwrap();
        let machine = StateMachine::load(disk.clone(), Arc::new(Replica::new())).await.unwrap();
        Ok((dir, LogStore::new(disk), machine))
    }
}

#[test]
fn the_store_is_what_openraft_expects() {
    Suite::test_all(Builder).unwrap();
}
