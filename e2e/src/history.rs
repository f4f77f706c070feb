//! Everything that a watch told about the rooms of a namespace, to judge the whole of it afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use callplane_crds::{
    CallRoom, Route,
    condition::{self, room},
};
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::clock;

/// One version of one room.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the watch told.
    pub at: Instant,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `status.route`.
    pub route: Option<Route>,
    /// `status.previousRoute`.
    pub previous: Option<Route>,
    /// The room can be joined.
    pub ready: bool,
    /// A list told and not the watch, so that versions before this one may have been missed.
    pub listed: bool,
}

impl Seen {
    fn epoch(&self) -> i64 {
        self.route.as_ref().map_or(0, |r| r.epoch)
    }
}

#[derive(Default)]
struct Record {
    seen: Vec<Seen>,
    /// Times that the watch had to list again, so that versions in between may have been missed.
    relists: usize,
}

/// Records every version of every room of a namespace from now on.
pub struct History {
    record: Arc<Mutex<Record>>,
    changed: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// Begins to record; returns when the watch is established.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn of(rooms: Api<CallRoom>) -> Result<Self> {
        let record = Arc::new(Mutex::new(Record::default()));
        let (sender, mut changed) = watch::channel(0);
        let task = tokio::spawn(follow(rooms, record.clone(), sender));
        // The first mark is the end of the first list.
        tokio::time::timeout(Duration::from_secs(60), changed.changed()).await.context("the watch of the rooms")??;
        Ok(Self { record, changed, task })
    }

    /// Every version seen so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.record).seen.clone()
    }

    /// The last version seen of each room, by name.
    pub fn latest(&self) -> BTreeMap<String, Seen> {
        lock(&self.record).seen.iter().map(|s| (s.name.clone(), s.clone())).collect()
    }

    /// Waits until `check` on the last version of each room yields something.
    ///
    /// # Errors
    /// When it does not within `budget`, with some of the rooms as they were last seen.
    pub async fn until<T>(
        &self,
        what: &str,
        budget: Duration,
        mut check: impl FnMut(&BTreeMap<String, Seen>) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.changed.clone();
        let found = tokio::time::timeout(budget, async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = check(&self.latest()) {
                    return Ok(found);
                }
                changed.changed().await.context("the watch of the rooms ended")?;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => {
                let latest = self.latest();
                let open: Vec<_> = latest.values().filter(|s| !s.ready).take(5).collect();
                bail!(
                    "{what}: not within {budget:?}; of {} rooms {} are ready; not ready: {open:?}",
                    latest.len(),
                    latest.values().filter(|s| s.ready).count()
                )
            }
        }
    }

    /// Waits until `count` rooms can be joined.
    ///
    /// # Errors
    /// When they cannot within `budget`.
    pub async fn until_ready(&self, count: usize, budget: Duration) -> Result<()> {
        let ready =
            |rooms: &BTreeMap<String, Seen>| (rooms.values().filter(|s| s.ready).count() >= count).then_some(());
        self.until(&format!("{count} rooms to be ready"), budget, ready).await
    }

    /// Waits for the first version of `name` that names `epoch` or a later one.
    ///
    /// # Errors
    /// When there is none within `budget`.
    pub async fn until_epoch(&self, name: &str, epoch: i64, budget: Duration) -> Result<Seen> {
        self.until(&format!("epoch {epoch} of {name}"), budget, |rooms| {
            rooms.get(name).filter(|s| s.epoch() >= epoch).cloned()
        })
        .await?;
        // The last version may be a later one than the one that told first.
        let seen = self.seen().into_iter().find(|s| s.name == name && s.epoch() >= epoch);
        seen.context("a version that was just seen")
    }

    /// Checks that no epoch of a room ever named two nodes, or one and none, and that epochs never went back or skipped.
    /// A room without a route (not placed yet, or over) has no epoch.
    ///
    /// # Errors
    /// When one of this does not hold.
    pub fn judge_ownership(&self) -> Result<()> {
        let mut owners: BTreeMap<(String, i64), Option<String>> = BTreeMap::new();
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        for seen in self.seen() {
            for route in seen.route.iter().chain(&seen.previous) {
                let owner = owners.entry((seen.uid.clone(), route.epoch)).or_insert_with(|| route.node.clone());
                ensure!(
                    *owner == route.node,
                    "epoch {} of room {} named both {owner:?} and {:?}",
                    route.epoch,
                    seen.name,
                    route.node
                );
            }
            if seen.route.is_none() {
                continue;
            }
            let before = last.insert(seen.uid.clone(), seen.epoch()).unwrap_or(0);
            ensure!(before <= seen.epoch(), "room {} went back from epoch {before} to {}", seen.name, seen.epoch());
            ensure!(
                seen.epoch() <= before + 1 || self.relisted(),
                "room {} went from epoch {before} to {}",
                seen.name,
                seen.epoch()
            );
        }
        Ok(())
    }

    /// Whether the watch had to list again, so that versions may have been missed.
    pub fn relisted(&self) -> bool {
        lock(&self.record).relists > 0
    }

    /// How often each room was written after its creation until it was ready, by name. A room of which a version may have
    /// been missed until then is left out: it would be counted too low.
    pub fn writes_until_ready(&self) -> BTreeMap<String, usize> {
        writes_until_ready(&self.seen())
    }

    /// Time from the first version of each room to the first that was ready, shortest first.
    pub fn times_to_ready(&self) -> Vec<Duration> {
        let mut created = BTreeMap::new();
        let mut ready = BTreeMap::new();
        for seen in self.seen() {
            created.entry(seen.uid.clone()).or_insert(seen.at);
            if seen.ready {
                ready.entry(seen.uid).or_insert(seen.at);
            }
        }
        let mut times: Vec<_> = ready.iter().filter_map(|(uid, at)| Some(*at - *created.get(uid)?)).collect();
        times.sort();
        times
    }
}

fn writes_until_ready(versions: &[Seen]) -> BTreeMap<String, usize> {
    let (mut writes, mut done) = (BTreeMap::<String, usize>::new(), BTreeSet::new());
    for seen in versions {
        if done.contains(&seen.name) {
            continue;
        }
        if seen.listed {
            writes.remove(&seen.name);
        } else {
            // The first version is the creation, which is not the operator's.
            writes.entry(seen.name.clone()).and_modify(|w| *w += 1).or_insert(0);
        }
        if seen.listed || seen.ready {
            done.insert(&seen.name);
        }
    }
    writes
}

async fn follow(rooms: Api<CallRoom>, record: Arc<Mutex<Record>>, changed: watch::Sender<usize>) {
    let mut events = pin!(watcher(rooms, watcher::Config::default()).default_backoff());
    let mut established = false;
    while let Some(event) = events.next().await {
        let (object, listed) = match event {
            Ok(watcher::Event::Init) => {
                lock(&record).relists += usize::from(established);
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                established = true;
                changed.send_modify(|count| *count += 1);
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => (object, true),
            Ok(watcher::Event::Apply(object)) => (object, false),
            Ok(watcher::Event::Delete(_)) | Err(_) => continue,
        };
        let status = object.status.clone().unwrap_or_default();
        let seen = Seen {
            at: clock::now(),
            uid: object.uid().unwrap_or_default(),
            name: object.name_any(),
            version: object.resource_version().unwrap_or_default(),
            ready: condition::is_true(&status.conditions, room::READY),
            route: status.route,
            previous: status.previous_route,
            listed,
        };
        {
            let mut record = lock(&record);
            let known =
                record.relists > 0 && record.seen.iter().any(|s| s.uid == seen.uid && s.version == seen.version);
            if !known {
                record.seen.push(seen);
            }
        }
        changed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_where_none_can_have_been_missed() {
        let at = clock::now();
        let version = |name: &str, ready, listed| Seen {
            at,
            uid: name.to_owned(),
            name: name.to_owned(),
            version: String::new(),
            route: None,
            previous: None,
            ready,
            listed,
        };
        let seen = [
            version("one", false, false),
            version("two", false, false),
            version("missed", false, false),
            version("one", true, false),
            version("two", false, false),
            // The watch lists anew, and versions that it has told of already are left out.
            version("missed", true, true),
            version("unseen", false, true),
            version("one", true, true),
            version("two", true, false),
            version("unseen", true, false),
        ];
        let expected = BTreeMap::from([("one".to_owned(), 1), ("two".to_owned(), 2)]);
        assert_eq!(writes_until_ready(&seen), expected);
    }
}
