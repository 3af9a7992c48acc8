//! Questions that are asked of the database together: each gets its own answer, and nobody waits
//! for what is not theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use sqlx::PgConnection;
use tenantry::app::batch_lookup::{BatchLookup, BatchQuery};
use tenantry::error::{Error, ErrorKind, Result};
use tokio::sync::Notify;

use crate::support::{TestApp, run};

/// The square of a number; `None` of an odd one.
struct Square {
    number: usize,
    largest_batch: Arc<AtomicUsize>,
}

impl BatchQuery for Square {
    type Answer = usize;
    const NAME: &'static str = "squares";

    async fn answer(db: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<usize>>> {
        sqlx::query("select").execute(db).await?;
        asked[0].largest_batch.fetch_max(asked.len(), Ordering::Relaxed);
        let square = |it: &Self| it.number.is_multiple_of(2).then_some(it.number.pow(2));
        Ok(asked.iter().map(square).collect())
    }
}

#[tokio::test]
async fn of_many_questions_at_once_each_gets_its_own_answer() {
    run(async |app| {
        let lookup = BatchLookup::start(&app.app.db, 2);
        let largest_batch = Arc::new(AtomicUsize::new(0));
        let ask = async |number| {
            let largest_batch = Arc::clone(&largest_batch);
            let square = lookup.query(Square { number, largest_batch }).await.unwrap();
            assert_eq!(square, number.is_multiple_of(2).then_some(number.pow(2)));
        };
        join_all((0..3_000).map(ask)).await;
        let largest = largest_batch.load(Ordering::Relaxed);
        assert!((2..=512).contains(&largest), "{largest}");
    })
    .await;
}

/// What is done with a batch, as its first question says.
enum Scripted {
    /// Answered.
    Answer,
    /// Not before there is word.
    Wait { has_begun: Arc<Notify>, word: Arc<Notify> },
    /// It panics.
    Panic,
    /// It fails.
    Fail,
}

impl BatchQuery for Scripted {
    type Answer = ();
    const NAME: &'static str = "told";

    async fn answer(_: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<()>>> {
        match &asked[0] {
            Self::Answer => {}
            Self::Wait { has_begun, word } => {
                has_begun.notify_one();
                word.notified().await;
            }
            Self::Panic => panic!("told to"),
            Self::Fail => return Err(Error::internal("told to")),
        }
        Ok(asked.iter().map(|_| Some(())).collect())
    }
}

fn scripted_lookup(app: &TestApp) -> BatchLookup<Scripted> {
    BatchLookup::start(&app.app.db, 2)
}

#[tokio::test]
async fn a_batch_that_takes_long_holds_up_no_other() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        let (has_begun, word) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = Scripted::Wait { has_begun: Arc::clone(&has_begun), word: Arc::clone(&word) };
        let meanwhile = async {
            has_begun.notified().await;
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
            word.notify_one();
        };
        let (slow, ()) = tokio::join!(lookup.query(slow), meanwhile);
        assert_eq!(slow.unwrap(), Some(()));
    })
    .await;
}

#[tokio::test]
async fn whoever_goes_away_takes_nobody_s_answer() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        let (has_begun, word) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = Scripted::Wait { has_begun: Arc::clone(&has_begun), word: Arc::clone(&word) };
        tokio::select! {
            _ = lookup.query(slow) => panic!("nothing was said"),
            () = has_begun.notified() => {}
        }
        word.notify_one();
        for _ in 0..3 {
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_failure_or_a_panic_the_next_question_is_answered() {
    run(async |app| {
        let lookup = scripted_lookup(app);
        for _ in 0..3 {
            for broken in [Scripted::Fail, Scripted::Panic] {
                let refused = lookup.query(broken).await.unwrap_err();
                assert_eq!(*refused.kind(), ErrorKind::Unavailable);
            }
            assert_eq!(lookup.query(Scripted::Answer).await.unwrap(), Some(()));
        }
    })
    .await;
}
