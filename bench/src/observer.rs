//! What a watch tells about the rooms: when each was ready, and how often it was written until then.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use callplane_crds::{
    CallRoom,
    condition::{self, room},
};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{api_server::NAMESPACE, clock};

/// What is known of one room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Versions seen after the first one, until it was ready.
    pub writes: u32,
    /// When it was first seen ready.
    pub ready: Option<Instant>,
}

#[derive(Default)]
struct Seen {
    rooms: HashMap<String, Room>,
    ready: usize,
    relists: usize,
}

/// A watch of all rooms.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    ready: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Begins to watch.
    pub fn start(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, ready) = watch::channel(0);
        let task = tokio::spawn(follow(Api::namespaced(client, NAMESPACE), seen.clone(), sender));
        Self { seen, ready, task }
    }

    /// How many rooms were ready at one time or another.
    pub fn ready(&self) -> usize {
        *self.ready.borrow()
    }

    /// Waits until `count` rooms whose names begin with `prefix` are ready.
    ///
    /// # Errors
    /// When no further room becomes ready for `patience`.
    pub async fn until_ready(&self, prefix: &str, count: usize, patience: Duration) -> Result<()> {
        let is_one = |(name, room): &(&String, &Room)| room.ready.is_some() && name.starts_with(prefix);
        // Looking at all of them each time would take longer than what is measured.
        self.until(patience, |rooms| rooms.len() >= count && rooms.iter().filter(is_one).count() >= count).await
    }

    /// Waits until `check` accepts what is known of the rooms.
    ///
    /// # Errors
    /// When it does not, and no further room becomes ready for `patience`.
    pub async fn until(&self, patience: Duration, check: impl Fn(&HashMap<String, Room>) -> bool) -> Result<()> {
        let mut ready = self.ready.clone();
        loop {
            let now = *ready.borrow_and_update();
            if check(&lock(&self.seen).rooms) {
                return Ok(());
            }
            let more = tokio::time::timeout(patience, ready.changed()).await;
            ensure!(matches!(more, Ok(Ok(()))), "only {now} rooms are ready, and no more for {patience:?}");
        }
    }

    /// What is known of the rooms whose names begin with `prefix`.
    pub fn rooms(&self, prefix: &str) -> BTreeMap<String, Room> {
        let seen = lock(&self.seen);
        seen.rooms.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(n, r)| (n.clone(), *r)).collect()
    }

    /// Whether the watch had to list again, so that writes may not have been counted.
    pub fn relisted(&self) -> bool {
        lock(&self.seen).relists > 1
    }
}

async fn follow(rooms: Api<CallRoom>, seen: Arc<Mutex<Seen>>, ready: watch::Sender<usize>) {
    let mut events = pin!(watcher(rooms, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => lock(&seen).relists += 1,
            Ok(watcher::Event::InitApply(room) | watcher::Event::Apply(room)) => take(&seen, &ready, &room),
            Ok(watcher::Event::Delete(_) | watcher::Event::InitDone) => {}
            Err(error) => eprintln!("the watch of the rooms: {error}"),
        }
    }
}

fn take(seen: &Mutex<Seen>, ready: &watch::Sender<usize>, object: &CallRoom) {
    let now = clock::now();
    let is_ready = object.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, room::READY));
    let mut seen = lock(seen);
    let Seen { rooms, ready: count, .. } = &mut *seen;
    let known = rooms.get_mut(&object.name_any());
    let room = match known {
        Some(room) => {
            room.writes += u32::from(room.ready.is_none());
            room
        }
        None => rooms.entry(object.name_any()).or_default(),
    };
    if is_ready && room.ready.is_none() {
        room.ready = Some(now);
        *count += 1;
        ready.send_replace(*count);
    }
}
