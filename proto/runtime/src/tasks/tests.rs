use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it took longer than 10 s")
}

#[tokio::test(start_paused = true)]
async fn a_hung_task_is_named_at_shutdown() {
    let tasks = Tasks::new();
    tasks.spawn("polite", tasks.cancelled());
    tasks.spawn("hung", std::future::pending::<()>());
    let inner = tasks.child();
    inner.spawn(format!("link {}", 7), std::future::pending::<()>());
    assert_eq!(tasks.alive(), ["polite", "hung", "link 7"]);
    assert_eq!(inner.alive(), ["link 7"]);
    assert_eq!(
        tasks.shutdown(Duration::from_secs(1)).await,
        Err(vec!["hung".to_owned(), "link 7".to_owned()])
    );
    assert_eq!(tasks.failure(), None);
}

#[tokio::test]
async fn a_child_shuts_down_alone() {
    let tasks = Tasks::new();
    let inner = tasks.child();
    tasks.spawn("outer", tasks.cancelled());
    inner.spawn("inner", inner.cancelled());
    assert_eq!(inner.shutdown(SOON).await, Ok(()));
    assert!(!tasks.token().is_cancelled());
    assert_eq!(tasks.alive(), ["outer"]);
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
}

#[tokio::test]
async fn a_panic_of_an_ordinary_task_cancels_nothing() {
    let tasks = Tasks::new();
    within(tasks.spawn("clumsy", async { panic!("dropped it") })).await.unwrap();
    within(tasks.spawn("unlucky", async { Err::<(), _>("no luck") })).await.unwrap();
    assert!(!tasks.token().is_cancelled());
    assert_eq!(tasks.failure(), None);
    assert_eq!(tasks.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_critical_panic_in_a_child_cancels_everything() {
    let tasks = Tasks::new();
    tasks.child().spawn_critical("forwarder 0", async { panic!("lost {}", "it") });
    within(tasks.cancelled()).await;
    let failure = tasks.failure().unwrap();
    assert_eq!(failure.to_string(), "task forwarder 0 failed: it panicked: lost it");
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
}

#[tokio::test]
async fn a_critical_task_that_fails_or_ends_early_cancels_everything() {
    for (task, reason) in [(Err("disk full"), "disk full"), (Ok(()), "it ended although nothing asked it to")]
    {
        let tasks = Tasks::new();
        tasks.spawn_critical("store", async move { task });
        within(tasks.cancelled()).await;
        assert_eq!(tasks.failure().unwrap().reason, reason);
    }
}

#[tokio::test]
async fn a_critical_task_may_end_once_cancelled() {
    let tasks = Tasks::new();
    tasks.spawn_critical("listener", tasks.cancelled());
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
    assert_eq!(tasks.failure(), None);
}

#[tokio::test]
async fn an_error_during_shutdown_is_not_its_cause() {
    let tasks = Tasks::new();
    let cancelled = tasks.cancelled();
    tasks.spawn_critical("store", async move {
        cancelled.await;
        Err::<(), _>("closed while it wrote")
    });
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
    assert_eq!(tasks.failure(), None);
}

#[tokio::test]
async fn the_first_failure_is_kept() {
    let tasks = Tasks::new();
    tasks.fail("store", "disk full");
    tasks.fail("raft", "the store is gone");
    assert_eq!(tasks.failure(), Some(Failure { task: "store".into(), reason: "disk full".into() }));
}

#[tokio::test]
async fn threads_are_tracked_cancelled_and_watched() {
    let tasks = Tasks::new();
    let (told, stopped) = std::sync::mpsc::channel::<()>();
    tasks
        .spawn_blocking_thread("worker", move |token| {
            while !token.is_cancelled() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            drop(told);
        })
        .unwrap();
    assert_eq!(tasks.alive(), ["worker"]);
    tasks.spawn_critical_thread("reader", |_| Err::<(), _>("socket closed")).unwrap();
    within(tasks.cancelled()).await;
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
    assert!(stopped.recv().is_err());
    assert_eq!(tasks.failure().unwrap().to_string(), "task reader failed: socket closed");
}

#[tokio::test]
async fn an_endless_loop_needs_no_result() {
    let tasks = Tasks::new();
    let task = tasks.spawn("ticker", async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    task.abort();
    assert!(within(task).await.unwrap_err().is_cancelled());
    assert_eq!(tasks.shutdown(SOON).await, Ok(()));
}
