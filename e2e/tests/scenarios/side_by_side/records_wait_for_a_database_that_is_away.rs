//! The gateways keep records in the chart's PostgreSQL. It hangs: people join as before, and what happened is written when it
//! goes on. It is killed: nothing that was written is gone, and what happens meanwhile comes after.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::CallId;
use callplane_e2e::{
    Scene, clock,
    cluster::SYSTEM,
    gateway::{self, Replica},
    process::{self, Hung, Signal},
    scenario, wait,
};

/// The chart's pod.
const DATABASE: &str = "callplane-postgresql-0";
/// Until what happened is in the database: the gateway tries again after 5 s at the latest, and a killed one starts anew.
const WRITTEN: Duration = Duration::from_secs(120);
/// Until a record waits in a gateway.
const WAITING: Duration = Duration::from_secs(60);
/// Records that wait for the database, on the gateway's metrics.
const WAITS: &str = "callplane_gateway_records_waiting";

#[test]
fn records_wait_for_a_database_that_is_away() {
    scenario::side_by_side("records", |scene| async move {
        scene.pods_ready(&[DATABASE]).await.context("e2e/cluster/install.sh enables PostgreSQL")?;
        let pool = scene.pool(1, |_| {}).await?;
        gateway::with_replicas(&scene, &pool, async |[one, two]| play(&scene, &pool, &one, &two).await).await
    });
}

async fn play(scene: &Scene, pool: &str, one: &Replica, two: &Replica) -> Result<()> {
    let (id, _) = one.make_room(pool).await?;
    one.join(&id, "bea").await?;
    two.join(&id, "bob").await?;
    until_recorded(scene, &id, &["bea", "bob"]).await.context("while the database is there")?;

    let hung = Hung::hang(scene.pod(DATABASE).await?).await?;
    let began = clock::now();
    one.join(&id, "carl").await?;
    two.join(&id, "cora").await?;
    let joined = began.elapsed();
    for replica in [one, two] {
        wait::polled("a record to wait", WAITING, || async { Ok((replica.metric(WAITS).await? >= 1.0).then_some(())) })
            .await?;
    }
    println!("  the database hangs: two joined within {joined:?}, and their records wait");
    hung.go_on().await?;
    let began = clock::now();
    until_recorded(scene, &id, &["bea", "bob", "carl", "cora"]).await.context("when the database goes on")?;
    println!("  they were written {:.1} s after it went on", began.elapsed().as_secs_f64());

    process::signal(&scene.pod(DATABASE).await?, Signal::Kill).await?;
    let began = clock::now();
    one.join(&id, "dora").await?;
    until_recorded(scene, &id, &["bea", "bob", "carl", "cora", "dora"])
        .await
        .context("after the database was killed")?;
    println!("  killed: all of it is there {:.1} s later", began.elapsed().as_secs_f64());
    Ok(())
}

/// Waits until exactly these have been let into the room, each once.
async fn until_recorded(scene: &Scene, id: &CallId, users: &[&str]) -> Result<()> {
    // The room's name is the gateway's, and has nothing in it that SQL would have to quote.
    let query = format!(
        "SELECT user_id FROM callplane_participants JOIN callplane_rooms USING (room_uid) \
         WHERE room_id = '{id}' AND user_id <> 'ann' ORDER BY user_id"
    );
    let expected: BTreeSet<&str> = users.iter().copied().collect();
    wait::polled(&format!("records of {users:?}"), WRITTEN, || async {
        // It may be starting.
        let rows = query_database(scene, &query).await.unwrap_or_default();
        let found: Vec<&str> = rows.lines().collect();
        ensure!(found.len() <= expected.len(), "more records than there were: {found:?}");
        Ok((found.into_iter().collect::<BTreeSet<_>>() == expected).then_some(()))
    })
    .await
}

async fn query_database(scene: &Scene, query: &str) -> Result<String> {
    let psql = "PGPASSWORD=$(cat /etc/callplane/postgresql/password) PGCONNECT_TIMEOUT=5 exec \
         /usr/lib/postgresql/15/bin/psql -X -A -t -h 127.0.0.1 -U callplane -d callplane -c \"$1\"";
    let arguments = ["--namespace", SYSTEM, "exec", DATABASE, "--", "sh", "-c", psql, "sh", query];
    scene.cluster.run("kubectl", &arguments, "").await
}
