//! One piece of work for all who ask the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Work under way, by what it is about. Bounded by its callers: each entry has one that waits for it.
#[derive(Debug)]
pub(crate) struct Flights<K: Eq + Hash + Clone, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

/// Takes the entry away, also when the one who does the work is dropped.
struct Landing<K: Eq + Hash, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// What `work` comes to, or the same work of somebody who began before; nothing if that one was dropped.
    pub(crate) async fn join(&self, key: K, work: impl Future<Output = V>) -> Option<V> {
        let sender = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&key) {
                Some(receiver) => Err(receiver.clone()),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    under_way.insert(key.clone(), receiver);
                    Ok(sender)
                }
            }
        };
        match sender {
            Ok(sender) => {
                let _landing = Landing { under_way: Arc::clone(&self.under_way), key };
                let value = work.await;
                sender.send_replace(Some(value.clone()));
                Some(value)
            }
            Err(mut receiver) => {
                let value = receiver.wait_for(Option::is_some).await;
                value.ok().and_then(|value| value.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn those_who_ask_the_same_share_the_work() {
        let (flights, runs) = (Arc::new(Flights::<u8, u8>::default()), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = watch::channel(false);
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (flights, runs, mut gate) = (Arc::clone(&flights), Arc::clone(&runs), gate.clone());
                tokio::spawn(async move {
                    let work = async {
                        gate.wait_for(|open| *open).await.unwrap();
                        runs.fetch_add(1, Ordering::Relaxed);
                        7
                    };
                    flights.join(1, work).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        open.send_replace(true);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(7));
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert!(flights.under_way.lock().unwrap().is_empty());
        assert_eq!(flights.join(1, async { 8 }).await, Some(8));
    }

    #[tokio::test]
    async fn work_that_is_dropped_leaves_nobody_waiting() {
        let flights = Arc::new(Flights::<u8, u8>::default());
        let first = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.join(1, std::future::pending()).await }
        });
        while flights.under_way.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.join(1, async { 9 }).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let value = second.await.unwrap();
        assert!(value.is_none() || value == Some(9));
        assert!(flights.under_way.lock().unwrap().is_empty());
    }
}
