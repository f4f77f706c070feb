//! A node that hangs loses its rooms to another one, and when it wakes up it serves nobody under the old epoch.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use callplane_e2e::{
    clock,
    media::{Answer, MediaApi},
    process::Hung,
    scenario, scene, wait,
};

/// Lease of a node (8 s) with the operator's own probe after it, and much slack for a busy machine.
const DETECTED: Duration = Duration::from_secs(45);
/// How a node may refuse somebody with a token of an epoch that has passed.
const REFUSALS: [&str; 4] = ["epoch-stale", "epoch-superseded", "resyncing", "room-not-found"];
/// How often the node is asked once it goes on. It has hung for less than the minute after which the kubelet would end it,
/// and one that comes back is removed 20 s later at the earliest: so it answers, each time within a second or so.
const TRIES: usize = 20;

#[test]
fn a_hung_node_loses_its_rooms_and_refuses_their_old_epoch() {
    scenario::alone("hung-node", |scene| async move {
        let pool = scene.pool(2, |_| {}).await?;
        scene.create("standup", scene::room_on(&pool, 4)).await?;
        let (_, first) = scene.ready("standup", scene::ROOM_READY).await?;
        let history = scene.history().await?;
        let nodes = scene.ready_nodes(&pool, 2).await?;
        let api = |name: &str| {
            let node = nodes.iter().find(|n| n.metadata.name.as_deref() == Some(name));
            MediaApi::of(node.with_context(|| format!("{name} is no node of the pool"))?)
        };
        let (call, zombie) = (scene.call_id("standup"), api(first.node_name())?);
        let room = scene.rooms().get("standup").await?;
        let old_token = scene.tokens.mint(&room, 1, "alice")?;
        zombie.join(&call, &old_token).await?.map_err(|p| anyhow::anyhow!("the first join was refused: {p:?}"))?;

        let began = clock::now();
        let hung = Hung::hang(scene.pod(first.node_name()).await?).await?;
        let moved = history.until_epoch("standup", 2, DETECTED).await?;
        let route = moved.route.context("an epoch belongs to a route")?;
        println!("  hung; epoch 2 on {} after {:?} ({})", route.node_name(), moved.at - began, route.reason);
        ensure!(route.node != first.node, "epoch 2 is on the node that hangs");
        let token = scene.tokens.mint(&room, 2, "alice")?;
        let joined = api(route.node_name())?.join(&call, &token).await?;
        joined.map_err(|p| anyhow::anyhow!("the new node refused: {p:?}"))?;

        // Asked while it hangs, the zombie answers as the first thing that it does when it wakes up.
        let early = tokio::spawn({
            let (zombie, call) = (zombie.clone(), call.clone());
            let token = scene.tokens.mint(&room, 1, "bob")?;
            async move { zombie.join(&call, &token).await }
        });
        // The request is in the socket's buffer before the node is woken.
        tokio::time::sleep(Duration::from_millis(200)).await;
        hung.go_on().await?;
        let mut refusals = Refusals::default();
        refusals.judge(early.await?)?;
        for attempt in 0..TRIES {
            let token = scene.tokens.mint(&room, 1, &format!("user-{attempt}"))?;
            refusals.judge(zombie.join(&call, &token).await)?;
        }
        println!("  the node that hung was asked {} times: {refusals:?}", TRIES + 1);
        ensure!(refusals.heard() > 0, "the node that hung answered nobody, so this proves nothing: {refusals:?}");

        let (nodes, budget) = (scene.cluster.nodes(), scene::POD_READY);
        let end = wait::until(&nodes, first.node_name(), "to let go of the room", budget, |node| {
            let Some(node) = node else { return Some("is gone") };
            node.status.as_ref()?.rooms.iter().all(|r| r.name != "standup").then_some("serves no room")
        })
        .await?;
        println!("  the node that hung {end}");
        let last = history.latest().remove("standup").context("the room is there")?;
        ensure!(last.route.is_some_and(|r| r.epoch == 2), "the room moved again");
        history.judge_ownership()
    });
}

/// What came of asking with an old token.
#[derive(Debug, Default)]
struct Refusals {
    by_code: BTreeMap<String, usize>,
    unanswered: usize,
}

impl Refusals {
    /// An old token must be refused by name; a node that was ended meanwhile answers nobody.
    fn judge(&mut self, answer: Result<Answer>) -> Result<()> {
        match answer {
            Ok(Ok(transport)) => bail!("the node that hung let somebody in under the old epoch: {transport}"),
            Ok(Err(problem)) if REFUSALS.contains(&problem.code.as_str()) => {
                *self.by_code.entry(problem.code).or_default() += 1;
            }
            Ok(Err(problem)) => bail!("the node that hung refused for another reason: {problem:?}"),
            Err(error) => {
                println!("  the node that hung did not answer: {error:#}");
                self.unanswered += 1;
            }
        }
        Ok(())
    }

    fn heard(&self) -> usize {
        self.by_code.values().sum()
    }
}
