//! Batched database lookups: each query gets its own answer, and no query waits for another batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use sqlx::PgConnection;
use tenantry::app::batch_lookup::{BatchLookup, BatchQuery};
use tenantry::error::{Error, ErrorKind, Result};
use tokio::sync::Notify;

use crate::support::{TestApp, run};

/// Answers with the square of an even number, and `None` for an odd one.
struct Square {
    number: usize,
    largest_batch: Arc<AtomicUsize>,
}

impl BatchQuery for Square {
    type Answer = usize;
    type Shared = ();
    const NAME: &'static str = "squares";

    async fn answer(
        db: &mut PgConnection,
        (): &(),
        queries: &[Self],
    ) -> Result<Vec<Option<usize>>> {
        sqlx::query("select").execute(db).await?;
        queries[0].largest_batch.fetch_max(queries.len(), Ordering::Relaxed);
        let square = |it: &Self| it.number.is_multiple_of(2).then_some(it.number.pow(2));
        Ok(queries.iter().map(square).collect())
    }
}

#[tokio::test]
async fn concurrent_queries_are_batched_and_each_gets_its_own_answer() {
    run(async |app| {
        let lookup = BatchLookup::start(&app.app.db, 2, ());
        let largest_batch = Arc::new(AtomicUsize::new(0));
        let query = async |number| {
            let largest_batch = Arc::clone(&largest_batch);
            let square = lookup.query(Square { number, largest_batch }).await.unwrap();
            assert_eq!(square, number.is_multiple_of(2).then_some(number.pow(2)));
        };
        join_all((0..3_000).map(query)).await;
        let largest = largest_batch.load(Ordering::Relaxed);
        assert!((2..=512).contains(&largest), "{largest}");
    })
    .await;
}

#[tokio::test]
async fn the_queries_of_one_caller_are_answered_in_their_order_from_one_statement() {
    run(async |app| {
        let lookup = BatchLookup::start(&app.app.db, 2, ());
        let largest_batch = Arc::new(AtomicUsize::new(0));
        let query = |number| Square { number, largest_batch: Arc::clone(&largest_batch) };
        let callers = (0..20).map(async |caller| {
            let numbers = caller..caller + 100;
            let squares = lookup.query_all(numbers.clone().map(query).collect()).await.unwrap();
            let expected = numbers.map(|it| it.is_multiple_of(2).then_some(it.pow(2)));
            assert_eq!(squares, expected.collect::<Vec<_>>());
        });
        join_all(callers).await;
        let largest = largest_batch.load(Ordering::Relaxed);
        assert!(largest >= 100 && largest.is_multiple_of(100), "{largest}");
        assert_eq!(lookup.query_all(Vec::new()).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn queries_beyond_the_queue_are_rejected_and_the_others_are_answered() {
    run(async |app| {
        let lookup = BatchLookup::start(&app.app.db, 1, ());
        let largest_batch = Arc::default();
        let query = |number| Square { number, largest_batch: Arc::clone(&largest_batch) };
        let group = |_| lookup.query_all((0..1_024).map(query).collect());
        let results = join_all((0..20).map(group)).await;
        let (answered, rejected): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!((answered.len(), rejected.len()), (8, 12));
        for error in rejected.into_iter().map(Result::unwrap_err) {
            assert_eq!(*error.kind(), ErrorKind::Unavailable);
        }
        assert_eq!(lookup.query(query(2)).await.unwrap(), Some(4));
    })
    .await;
}

/// What happens to a batch: its first query decides.
enum Scripted {
    /// It succeeds.
    Answer,
    /// It waits for `release`.
    Wait { has_begun: Arc<Notify>, release: Arc<Notify> },
    /// It panics.
    Panic,
    /// It fails.
    Fail,
}

impl BatchQuery for Scripted {
    type Answer = ();
    type Shared = ();
    const NAME: &'static str = "scripted";

    async fn answer(_: &mut PgConnection, (): &(), queries: &[Self]) -> Result<Vec<Option<()>>> {
        match &queries[0] {
            Self::Answer => {}
            Self::Wait { has_begun, release } => {
                has_begun.notify_one();
                release.notified().await;
            }
            Self::Panic => panic!("scripted panic"),
            Self::Fail => return Err(Error::internal("scripted error")),
        }
        Ok(queries.iter().map(|_| Some(())).collect())
    }
}

fn scripted_lookup(app: &TestApp) -> BatchLookup<Scripted> {
    BatchLookup::start(&app.app.db, 2, ())
}

#[tokio::test]
async fn a_slow_batch_does_not_delay_another() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        let (has_begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow =
            Scripted::Wait { has_begun: Arc::clone(&has_begun), release: Arc::clone(&release) };
        let meanwhile = async {
            has_begun.notified().await;
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
            release.notify_one();
        };
        let (slow, ()) = tokio::join!(lookup.query(slow), meanwhile);
        assert_eq!(slow.unwrap(), Some(()));
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_query_does_not_affect_later_ones() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        let (has_begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow =
            Scripted::Wait { has_begun: Arc::clone(&has_begun), release: Arc::clone(&release) };
        tokio::select! {
            _ = lookup.query(slow) => panic!("answered before it was released"),
            () = has_begun.notified() => {}
        }
        release.notify_one();
        for _ in 0..3 {
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
        }
    })
    .await;
}

#[tokio::test]
async fn after_an_error_or_a_panic_the_next_query_is_answered() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        for _ in 0..3 {
            for broken in [Scripted::Fail, Scripted::Panic] {
                let error = lookup.query(broken).await.unwrap_err();
                assert_eq!(*error.kind(), ErrorKind::Unavailable);
            }
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
        }
    })
    .await;
}
