//! The task that writes: in batches, each once, for as long as it takes.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::Receiver;

use super::{
    Inner, QUEUE,
    database::{DatabaseError, Entry},
};

/// Entries in one transaction at most.
const BATCH: usize = 256;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What to do after a try to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The batch is written.
    Done,
    /// Something in the batch cannot be written: find out what.
    Singly,
    /// The one entry of the batch cannot be written.
    Drop,
    /// Try again after this time.
    Wait(Duration),
}

/// Decides about a batch of `entries`, of which the last `failures` tries came to nothing.
fn next(result: Result<(), &DatabaseError>, entries: usize, failures: u32) -> Next {
    match result {
        Ok(()) => Next::Done,
        Err(error) if error.is_refusal() && entries > 1 => Next::Singly,
        Err(error) if error.is_refusal() => Next::Drop,
        Err(_) => Next::Wait(FIRST_WAIT.saturating_mul(1 << failures.min(8)).min(LONGEST_WAIT)),
    }
}

/// Writes until it is told to close and everything is written.
pub(super) async fn run(inner: Arc<Inner>, mut events: Receiver<Entry>, mut sessions: Receiver<Entry>) {
    let mut writer = Writer { inner, failures: 0 };
    writer.migrate().await;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let closing = writer.inner.closing.clone();
        tokio::select! {
            () = closing.cancelled(), if !events.is_closed() => {
                events.close();
                sessions.close();
            }
            taken = events.recv_many(&mut batch, BATCH) => {
                if taken == 0 && sessions.is_closed() {
                    break;
                }
            }
            Some(session) = sessions.recv() => batch.push(session),
        }
        writer.inner.metrics.records_waiting(QUEUE - writer.inner.events.capacity() + batch.len());
        writer.write(&mut batch).await;
    }
    while let Ok(session) = sessions.try_recv() {
        batch.push(session);
    }
    writer.write(&mut batch).await;
    writer.inner.metrics.records_waiting(0);
    writer.inner.closed.cancel();
    // It stays, as every task does until the process ends.
    std::future::pending().await
}

struct Writer {
    inner: Arc<Inner>,
    failures: u32,
}

impl Writer {
    async fn migrate(&mut self) {
        while let Err(error) = self.inner.database.migrate().await {
            let Next::Wait(wait) = next(Err(&error), 0, self.failures) else { continue };
            self.failed(&error, wait).await;
        }
        self.answered();
    }

    /// Writes the batch and empties it.
    async fn write(&mut self, batch: &mut Vec<Entry>) {
        let mut at_once = BATCH;
        while !batch.is_empty() {
            let count = at_once.min(batch.len());
            let result = self.inner.database.write(&batch[..count]).await;
            match (next(result.as_ref().copied(), count, self.failures), result) {
                (Next::Done, _) => {
                    self.inner.metrics.records_written(count);
                    batch.drain(..count);
                    self.answered();
                }
                (Next::Singly, _) => at_once = 1,
                (Next::Wait(wait), Err(error)) => self.failed(&error, wait).await,
                (Next::Drop | Next::Wait(_), result) => {
                    batch.remove(0);
                    self.inner.metrics.record_dropped("refused");
                    if let Err(error) = result {
                        tracing::error!(%error, "the database refuses a record");
                    }
                }
            }
        }
    }

    async fn failed(&mut self, error: &DatabaseError, wait: Duration) {
        if self.failures == 0 {
            tracing::warn!(%error, "the database does not answer; records wait");
        }
        self.failures = self.failures.saturating_add(1);
        self.inner.metrics.database_answers(0);
        tokio::time::sleep(wait).await;
        if let Err(error) = self.inner.database.look_again() {
            tracing::warn!(%error, "keeping the earlier URL of the database");
        }
    }

    fn answered(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("the database answers again");
        }
        self.inner.drops.store(false, std::sync::atomic::Ordering::Relaxed);
        self.inner.metrics.database_answers(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_is_asked_again_less_and_less_often() {
        let waits = |failures| next(Err(&DatabaseError::Timeout), 5, failures);
        assert_eq!(waits(0), Next::Wait(Duration::from_millis(100)));
        assert_eq!(waits(3), Next::Wait(Duration::from_millis(800)));
        assert_eq!(waits(1000), Next::Wait(LONGEST_WAIT));
        assert_eq!(next(Ok(()), 5, 3), Next::Done);
    }
}
