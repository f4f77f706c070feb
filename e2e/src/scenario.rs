//! Runs one scenario: opens its scene, plays it, tells what was there when it failed, and cleans up either way.

use std::{fs::File, io, time::Duration};

use anyhow::{Context, Result, anyhow};

use crate::{
    clock,
    cluster::{self, Cluster},
    scene::Scene,
};

/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(480);
/// For cleaning up.
const CLOSING: Duration = Duration::from_secs(300);

/// Plays `body` in a scene called `name`: 1 to 20 lower-case letters, digits and dashes. Nothing else plays meanwhile.
///
/// # Panics
/// When the scenario fails, or cannot put the cluster back as it was.
pub fn alone<F, Fut>(name: &str, body: F)
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    run(name, File::lock, body);
}

/// As [`alone`], at the same time as others that say so, too.
///
/// # Panics
/// As [`alone`].
pub fn side_by_side<F, Fut>(name: &str, body: F)
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    run(name, File::lock_shared, body);
}

fn run<F, Fut>(name: &str, claim: fn(&File) -> io::Result<()>, body: F)
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    // Only the first scenario of a process succeeds in this.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(play(name, claim, body)));
    if let Err(error) = outcome {
        panic!("{name}: {error:#}");
    }
}

async fn play<F, Fut>(name: &str, claim: fn(&File) -> io::Result<()>, body: F) -> Result<()>
where
    F: FnOnce(Scene) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    // Otherwise one would take for its own failure what another did to the cluster.
    let state = File::open(cluster::state()).context("the cluster's state")?;
    claim(&state).context("the cluster's state")?;
    let scene = Scene::open(Cluster::connect().await?, name).await?;
    let began = clock::now();
    // A task of its own, so that a failed assertion is an outcome and not the end.
    let mut task = tokio::spawn(body(scene.clone()));
    let outcome = match tokio::time::timeout(LIMIT, &mut task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(anyhow!("{panic}")),
        Err(_) => {
            task.abort();
            Err(anyhow!("not done within {LIMIT:?}"))
        }
    };
    if let Err(error) = &outcome {
        eprintln!("{name} failed: {error:#}\n{}", scene.diagnosis().await);
    }
    let closed = match tokio::time::timeout(CLOSING, scene.close()).await {
        Ok(closed) => closed,
        Err(_) => Err(anyhow!("not cleaned up within {CLOSING:?}\n{}", scene.diagnosis().await)),
    };
    println!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    outcome.and(closed)
}
