//! A work queue: each key once, never twice at the same time, urgent ones first.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// First delay after a failure; doubles with each further one.
pub const FIRST_RETRY: Duration = Duration::from_millis(20);
/// Longest delay between tries.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Longest delay where somebody waits.
pub const LONGEST_SOON: Duration = Duration::from_secs(3);

/// What comes after a key was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Rest,
    /// Again after this time.
    After(Duration),
    /// It failed: again after a growing delay.
    Retry,
    /// It failed and somebody waits for it: again soon, growing only to [`LONGEST_SOON`].
    RetrySoon,
}

/// Timers that nobody waits for any more, beyond as many as there are others, before they are swept.
const STALE_TIMERS: usize = 64;

/// Keys that are to be worked on. Bounded by the number of distinct keys.
#[derive(Debug)]
pub struct Queue<K> {
    inner: Mutex<Inner<K>>,
    ready: Notify,
    timer: Notify,
}

#[derive(Debug)]
struct Inner<K> {
    urgent: VecDeque<K>,
    normal: VecDeque<K>,
    /// Keys in `urgent` or `normal`, with the lane that holds for them.
    queued: HashMap<K, Lane>,
    /// Keys that are being worked on.
    running: HashSet<K>,
    /// Keys to put back when they are done with, because they were added meanwhile.
    again: HashMap<K, Lane>,
    /// When a key is to come by itself. The heap may hold outdated entries; this map is right.
    due: HashMap<K, Instant>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timer_keys: HashMap<u64, K>,
    next_timer: u64,
    failures: HashMap<K, u32>,
}

/// How soon a key's turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// After all urgent ones.
    Normal,
    /// First.
    Urgent,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let inner = Inner {
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            queued: HashMap::new(),
            running: HashSet::new(),
            again: HashMap::new(),
            due: HashMap::new(),
            timers: BinaryHeap::new(),
            timer_keys: HashMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
        };
        Self { inner: Mutex::new(inner), ready: Notify::new(), timer: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Adds `key`, once.
    pub fn add(&self, key: K, lane: Lane) {
        self.lock().add(key, lane);
        self.ready.notify_one();
    }

    /// Keys that wait for their turn.
    pub fn depth(&self) -> usize {
        self.lock().queued.len()
    }

    /// Keys that are being worked on.
    pub fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// Forgets everything but what is being worked on.
    pub fn clear(&self) {
        let mut inner = self.lock();
        let running = std::mem::take(&mut inner.running);
        *inner = Inner { running, ..Queue::default().inner.into_inner().unwrap_or_else(PoisonError::into_inner) };
    }

    /// The next key. Give it back with [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let notified = self.ready.notified();
            let (key, more) = {
                let mut inner = self.lock();
                (inner.take(), !inner.queued.is_empty())
            };
            if more {
                self.ready.notify_one();
            }
            match key {
                Some(key) => return key,
                None => notified.await,
            }
        }
    }

    /// Gives `key` back.
    #[expect(clippy::disallowed_methods, reason = "timers of the queue run on tokio's clock")]
    pub fn done(&self, key: K, next: Next) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.running.remove(&key);
        let delay = match next {
            Next::Rest => None,
            Next::After(delay) => Some(delay),
            Next::Retry => Some(inner.failed(&key, LONGEST_RETRY)),
            Next::RetrySoon => Some(inner.failed(&key, LONGEST_SOON)),
        };
        if matches!(next, Next::Rest | Next::After(_)) {
            inner.failures.remove(&key);
        }
        if let Some(lane) = inner.again.remove(&key) {
            inner.add(key, lane);
            drop(inner);
            self.ready.notify_one();
        } else if let Some(delay) = delay {
            inner.schedule(key, now + delay);
            drop(inner);
            self.timer.notify_one();
        }
    }

    /// Moves keys whose time has come into the queue, for ever.
    #[expect(clippy::disallowed_methods, reason = "timers of the queue run on tokio's clock")]
    pub async fn run_timers(&self) {
        loop {
            let notified = self.timer.notified();
            let next = {
                let mut inner = self.lock();
                let (next, fired) = inner.fire(Instant::now());
                drop(inner);
                if fired {
                    self.ready.notify_one();
                }
                next
            };
            match next {
                Some(at) => tokio::select! { () = notified => {}, () = tokio::time::sleep_until(at) => {} },
                None => notified.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    fn add(&mut self, key: K, lane: Lane) {
        self.due.remove(&key);
        if self.running.contains(&key) {
            let again = self.again.entry(key).or_insert(lane);
            *again = lane.max(*again);
            return;
        }
        match self.queued.get(&key) {
            Some(held) if *held >= lane => return,
            // It stays in the normal lane as well; whoever meets it there finds it done.
            _ => self.queued.insert(key.clone(), lane),
        };
        match lane {
            Lane::Urgent => self.urgent.push_back(key),
            Lane::Normal => self.normal.push_back(key),
        }
    }

    fn take(&mut self) -> Option<K> {
        loop {
            let (key, lane) = match self.urgent.pop_front() {
                Some(key) => (key, Lane::Urgent),
                None => (self.normal.pop_front()?, Lane::Normal),
            };
            if self.queued.get(&key) == Some(&lane) {
                self.queued.remove(&key);
                self.running.insert(key.clone());
                return Some(key);
            }
        }
    }

    fn failed(&mut self, key: &K, longest: Duration) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures += 1;
        FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(12)).min(longest)
    }

    fn schedule(&mut self, key: K, at: Instant) {
        if self.queued.contains_key(&key) || self.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        self.due.insert(key.clone(), at);
        self.start_timer(key, at);
        // A key that is queued before its time leaves its timer behind.
        if self.timers.len() > 2 * self.due.len() + STALE_TIMERS {
            self.timers.clear();
            self.timer_keys.clear();
            for (key, at) in self.due.clone() {
                self.start_timer(key, at);
            }
        }
    }

    fn start_timer(&mut self, key: K, at: Instant) {
        self.timer_keys.insert(self.next_timer, key);
        self.timers.push(Reverse((at, self.next_timer)));
        self.next_timer += 1;
    }

    /// Queues what is due. Returns when to look again, and whether anything was queued.
    fn fire(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let mut fired = false;
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                return (Some(at), fired);
            }
            self.timers.pop();
            if let Some(key) = self.timer_keys.remove(&id)
                && self.due.get(&key) == Some(&at)
            {
                self.add(key, Lane::Normal);
                fired = true;
            }
        }
        (None, fired)
    }
}

/// Runs `work` on the keys of `queue`, `concurrency` at a time, until the task is dropped.
pub async fn run<K, F, W>(queue: Arc<Queue<K>>, concurrency: usize, work: F)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = Next> + Send,
{
    let mut tasks = tokio::task::JoinSet::new();
    let timers = Arc::clone(&queue);
    tasks.spawn(async move { timers.run_timers().await });
    for _ in 0..concurrency {
        let (queue, work) = (Arc::clone(&queue), work.clone());
        tasks.spawn(async move {
            loop {
                let key = queue.next().await;
                let guard = Running { queue: &queue, key: Some(key.clone()) };
                let next = work(key).await;
                guard.finish(next);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Gives a key back even when the work on it is dropped halfway.
struct Running<'a, K: Clone + Eq + Hash> {
    queue: &'a Queue<K>,
    key: Option<K>,
}

impl<K: Clone + Eq + Hash> Running<'_, K> {
    fn finish(mut self, next: Next) {
        if let Some(key) = self.key.take() {
            self.queue.done(key, next);
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Running<'_, K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.queue.done(key, Next::Rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn urgent_keys_go_first_and_no_key_runs_twice_at_once() {
        let queue = Queue::default();
        queue.add(1, Lane::Normal);
        queue.add(2, Lane::Normal);
        queue.add(3, Lane::Urgent);
        queue.add(2, Lane::Urgent);
        assert_eq!((queue.next().await, queue.next().await), (3, 2));
        queue.add(2, Lane::Normal);
        assert_eq!(queue.next().await, 1);
        assert_eq!(queue.depth(), 0, "2 is running and comes back only when it is done");
        queue.done(2, Next::Rest);
        assert_eq!(queue.next().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_looked_at_often_leaves_no_timers_behind() {
        let queue = Queue::default();
        for _ in 0..10_000 {
            queue.add(1, Lane::Normal);
            assert_eq!(queue.next().await, 1);
            queue.done(1, Next::After(Duration::from_secs(600)));
        }
        let inner = queue.lock();
        assert_eq!(inner.due.len(), 1);
        assert!(inner.timers.len() <= STALE_TIMERS + 2 && inner.timer_keys.len() == inner.timers.len());
    }

    #[expect(clippy::disallowed_methods, reason = "a paused clock")]
    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_a_change_cuts_the_wait_short() {
        let queue = Arc::new(Queue::default());
        let timers = Arc::clone(&queue);
        tokio::spawn(async move { timers.run_timers().await });
        let started = Instant::now();
        queue.add(1, Lane::Normal);
        for expected in [0, 20, 60, 140] {
            assert_eq!(queue.next().await, 1);
            assert_eq!(started.elapsed().as_millis() / 10 * 10, expected, "doubling from 20 ms");
            queue.done(1, Next::Retry);
        }
        queue.add(1, Lane::Normal);
        assert_eq!(queue.next().await, 1);
        assert!(started.elapsed() < Duration::from_millis(150));
        queue.done(1, Next::After(Duration::from_secs(600)));
        assert_eq!(queue.next().await, 1);
        assert!(started.elapsed() >= Duration::from_secs(600));
    }
}
