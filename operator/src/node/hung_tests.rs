//! A media node that hangs, from its last sign of life until its calls go on elsewhere, by a clock that runs as fast as
//! nothing happens. How long that may take is in `docs/decisions/node-loss.md`.

use std::{collections::BTreeSet, net::TcpListener, sync::Arc, time::Duration};

use callplane_crds::{CallRoom, MediaNode, medianode::Endpoints, mediapool::Placement};
use tokio::task::JoinSet;

use super::reconcile;
use crate::{
    clock::Clock,
    cluster::{fixtures::*, liveness::DEFAULT_LEASE, node::LossCause},
    context::Context,
    fake::{Shared, candidate, put, requests, stored, told},
    leader::{Claim, LEASE_NAME, RENEW_EVERY},
    queue, room,
};

/// Calls on the node.
const ROOMS: u8 = 100;
/// How often a node renews.
const NODE_RENEWS: Duration = Duration::from_secs(5);
/// From the last renewal to the verdict: the lease and two probes.
const BUDGET: Duration = Duration::from_secs(10);
/// What timers may add to that.
const TICKS: Duration = Duration::from_millis(50);
/// From the verdict to the next route of the last call.
const REROUTED: Duration = Duration::from_secs(1);
/// How long the API server takes for a write while sixteen are under way: what one on two cores was measured to take.
const WRITE: Duration = Duration::from_millis(30);
/// Rooms written at the same time: the fewest that the operator can be told.
const WRITERS: usize = 16;

fn room_name(i: u8) -> String {
    format!("r{i}")
}

/// Node `a`, which says where it can be asked, and how many people are in each of its calls: as many as its number.
fn crowded(admin: &TcpListener) -> MediaNode {
    let names: Vec<String> = (0..ROOMS).map(room_name).collect();
    let served: Vec<(&str, i64, i32)> = names.iter().zip(0..).map(|(name, i)| (name.as_str(), 1, i)).collect();
    let mut node = reporting(node("a", 2, 200), 2, 0, &served);
    let url = format!("http://{}", admin.local_addr().unwrap());
    node.status.as_mut().unwrap().endpoints = Some(Endpoints { admin: url.clone(), api: url, rtc: vec![] });
    node
}

/// An operator that leads: all controllers at work, and leases that are renewed and seen.
struct Fleet {
    server: Shared,
    ctx: Arc<Context>,
    tasks: JoinSet<()>,
    /// Takes connections and never says anything.
    _hung: TcpListener,
}

impl Fleet {
    /// `a` renews until `last`, and once more at each of `later`.
    async fn start(last: Duration, later: &'static [u64]) -> Self {
        let (server, clock, claim) = (Shared::default(), Clock::start(), Arc::<Claim>::default());
        let hung = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut cluster = cluster(&[("a", 200), ("b", 100), ("c", 100)], Placement::Spread);
        let node = crowded(&hung);
        put(&server, &node);
        cluster.apply_node(node, Duration::ZERO);
        for i in 0..ROOMS {
            let mut room = CallRoom { metadata: meta(&room_name(i), 5), ..placed("r", 5, 4, "a") };
            room.status.as_mut().unwrap().participants = Some(i.into());
            put(&server, &room);
            cluster.apply_room(room, Duration::ZERO);
        }
        claim.renewed(clock.now().mono);
        let ctx = candidate(&server, Arc::clone(&claim), clock, cluster);
        let mut tasks = JoinSet::new();
        let (nodes, rooms, seeing) = (Arc::clone(&ctx), Arc::clone(&ctx), Arc::clone(&ctx));
        tasks.spawn(queue::run(Arc::clone(&ctx.nodes), 32, move |name| reconcile(name, Arc::clone(&nodes))));
        tasks.spawn(queue::run(Arc::clone(&ctx.rooms), WRITERS, move |key| room::reconcile(key, Arc::clone(&rooms))));
        tasks.spawn(async move {
            for second in 0u64.. {
                let now = seeing.clock.now().mono;
                let renews = |every: Duration| second.is_multiple_of(every.as_secs());
                let mut renewed = Vec::new();
                if renews(RENEW_EVERY) {
                    claim.renewed(now);
                    renewed.push(LEASE_NAME);
                }
                if renews(NODE_RENEWS) {
                    renewed.extend(["b", "c"]);
                }
                if (renews(NODE_RENEWS) && now <= last + TICKS) || later.contains(&second) {
                    renewed.push("a");
                }
                for name in renewed {
                    let effects = seeing.cluster().apply_lease(&lease(name, 2000 + second, second), now);
                    seeing.spread(effects);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        ctx.lead();
        // Everything is looked at once, and nothing is to be done.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.lock().unwrap().takes = WRITE;
        Self { server, ctx, tasks, _hung: hung }
    }

    /// The calls that go on elsewhere by now.
    fn moved(&self) -> BTreeSet<u8> {
        let has_moved = |i: &u8| {
            let status = stored::<CallRoom>(&self.server, &room_name(*i)).unwrap().status.unwrap();
            let route = status.route.unwrap();
            assert!(route.epoch == 1 || route.node.as_deref() != Some("a"));
            route.epoch == 2
        };
        (0..ROOMS).filter(has_moved).collect()
    }

    fn verdict(&self) -> Option<(Duration, LossCause)> {
        self.ctx.cluster().node("a").unwrap().lost.as_ref().map(|lost| (lost.since, lost.cause.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_nodes_calls_go_on_elsewhere_within_the_budget_and_none_moves_before() {
    let last = NODE_RENEWS;
    let mut fleet = Fleet::start(last, &[]).await;
    let until = async |at: Duration| tokio::time::sleep(at.saturating_sub(fleet.ctx.clock.now().mono)).await;

    until(last + BUDGET - TICKS).await;
    assert_eq!((fleet.verdict(), requests(&fleet.server, "PATCH")), (None, 0), "its lease has run out, and no more");
    until(last + BUDGET + TICKS).await;
    let (since, cause) = fleet.verdict().expect("it is lost");
    assert_eq!(cause, LossCause::Silent);
    assert!(since >= last + DEFAULT_LEASE + 2 * super::act::PROBE_TIMEOUT, "two probes had their time: {since:?}");

    // The fullest calls first, sixteen at a time.
    until(since + WRITE + TICKS / 10).await;
    let first: BTreeSet<u8> = (ROOMS - 16..ROOMS).collect();
    assert_eq!(fleet.moved(), first);
    until(since + REROUTED).await;
    assert_eq!(fleet.moved().len(), usize::from(ROOMS), "each of them, and within the second that is promised");
    assert_eq!(
        requests(&fleet.server, "PATCH /apis/callplane.io/v1alpha1/namespaces/team/callrooms"),
        100,
        "one write each"
    );
    let shares = ["b", "c"].map(|node| fleet.ctx.cluster().rooms_on(node).count());
    assert_eq!(shares, [50, 50], "a burst does not pile up on one node");

    let told = told(&fleet.server);
    assert_eq!(told.iter().filter(|word| *word == "Warning NodeLost MediaNode/a").count(), 1);
    assert_eq!(told.iter().filter(|word| word.starts_with("Warning NodeLost CallRoom/")).count(), 100);
    assert_eq!(told.len(), 101, "{told:?}");
    fleet.tasks.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_renews_while_it_is_being_probed_keeps_its_calls() {
    // Its lease runs out at 13, it is asked until 15, and it was heard at 14: it stalled, and goes on.
    let mut fleet = Fleet::start(NODE_RENEWS, &[14, 19, 24, 29, 34]).await;
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!((fleet.verdict(), requests(&fleet.server, "PATCH"), fleet.moved().len()), (None, 0, 0));
    assert_eq!(told(&fleet.server), [""; 0]);
    fleet.tasks.shutdown().await;
}
