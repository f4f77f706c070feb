//! Waiting: by watch for one object or a set of them, and by asking for what nobody can watch.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, time::Duration};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

use crate::text::{Summary, shortened};

/// How many objects, and how many characters, a failure shows.
const SHOWN_OBJECTS: usize = 6;
const SHOWN_CHARACTERS: usize = 3000;
/// Between two questions about what cannot be watched.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows the objects that `config` selects until `check` yields something.
///
/// # Errors
/// When it does not within `budget`, with the objects as they were last seen.
pub async fn until_all<K, T>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    budget: Duration,
    mut check: impl FnMut(&BTreeMap<String, K>) -> Option<T>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Summary + 'static,
{
    let mut objects = BTreeMap::new();
    let mut trouble = None;
    let found = tokio::time::timeout(budget, async {
        let mut events = pin!(watcher(api.clone(), config).default_backoff());
        let mut listing = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    listing = BTreeMap::new();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    listing.insert(object.name_any(), object);
                    continue;
                }
                Ok(watcher::Event::InitDone) => objects = std::mem::take(&mut listing),
                Ok(watcher::Event::Apply(object)) => drop(objects.insert(object.name_any(), object)),
                Ok(watcher::Event::Delete(object)) => drop(objects.remove(&object.name_any())),
                Err(error) => {
                    trouble = Some(error.to_string());
                    continue;
                }
            }
            if let Some(found) = check(&objects) {
                return Some(found);
            }
        }
        None
    });
    match found.await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(anyhow!("the watch for {what} ended")),
        Err(_) => {
            let shown = objects.values().take(SHOWN_OBJECTS).map(Summary::summary).collect::<Vec<_>>().join("\n  ");
            let trouble = trouble.map(|t| format!("\n  last error: {t}")).unwrap_or_default();
            Err(anyhow!(
                "{what}: not within {budget:?}; last seen {} of them:\n  {}{trouble}",
                objects.len(),
                shortened(&shown, SHOWN_CHARACTERS)
            ))
        }
    }
}

/// Follows the object called `name` until `check` yields something. `None` is an object that does not exist.
///
/// # Errors
/// When it does not within `budget`, with the object as it was last seen.
pub async fn until<K, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    budget: Duration,
    mut check: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Summary + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    until_all(api, config, &format!("{name}: {what}"), budget, |objects| check(objects.get(name))).await
}

/// Waits until the object called `name` is gone.
///
/// # Errors
/// When it is not within `budget`, with the object as it was last seen.
pub async fn until_gone<K>(api: &Api<K>, name: &str, budget: Duration) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Summary + 'static,
{
    until(api, name, "to be gone", budget, |object| object.is_none().then_some(())).await
}

/// Watches for `duration` that `violation` finds nothing.
///
/// # Errors
/// When it does, with what it found.
pub async fn never<K>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    duration: Duration,
    mut violation: impl FnMut(&BTreeMap<String, K>) -> Option<String>,
) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Summary + 'static,
{
    let mut looked = false;
    let found = until_all(api, config, what, duration, |objects| {
        looked = true;
        violation(objects)
    });
    match found.await {
        Ok(found) => Err(anyhow!("{what} must never be, but: {found}")),
        Err(_) if looked => Ok(()),
        Err(error) => Err(error.context("nothing could be watched")),
    }
}

/// Asks again and again until the answer is something: for what cannot be watched.
///
/// # Errors
/// When `ask` fails, or answers nothing within `budget`.
pub async fn polled<T, Answer>(what: &str, budget: Duration, ask: impl Fn() -> Answer) -> Result<T>
where
    Answer: Future<Output = Result<Option<T>>>,
{
    let found = tokio::time::timeout(budget, async {
        loop {
            if let Some(found) = ask().await? {
                return anyhow::Ok(found);
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    found.await.map_err(|_| anyhow!("{what}: not within {budget:?}"))?.context(what.to_owned())
}
