//! What happens before everything is known, and what then.

use callplane_crds::mediapool::Placement;
use k8s_openapi::api::coordination::v1::Lease;

use super::*;
use crate::{
    admin::tests::ask,
    cluster::{Cluster, fixtures::pool},
    fake::{NAMESPACE, Shared, client, put, requests, stored},
    leader::LEASE_NAME,
};

const NODES: &str = "/apis/callplane.io/v1alpha1/namespaces/team/medianodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/team/leases";

/// Waits until `server` was asked for something that begins so.
async fn asked(server: &Shared, what: &str) {
    let asked = async {
        while requests(server, what) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), asked).await.expect(what);
}

/// By a clock that runs as fast as nothing happens.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_and_nobody_runs_for_leader_before_all_caches_are_complete() {
    let server = Shared::default();
    put(&server, &pool("p", 1, Placement::Packed));
    server.lock().unwrap().silent.send_replace(vec![format!("GET {NODES}")]);
    let (claim, clock) = (Arc::<Claim>::default(), Clock::start());
    let ctx = crate::fake::candidate(&server, Arc::clone(&claim), clock, Cluster::new(LEASE_NAME));
    let election = Election::new(client(&server), NAMESPACE, "me".into(), claim, clock, Arc::clone(&ctx.metrics));
    let join_keys = keys::Policy { rotation: None, lead: Duration::from_secs(300) };
    let duties = Duties { room_concurrency: 16, turn: None, database: None, join_keys };
    let (synced, complete) = channel::channel(false);
    let admin = Admin { ctx: Arc::clone(&ctx), synced: complete };
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    let candidacy = begin(&ctx, &client(&server), election, duties, synced, stop.clone(), &mut tasks);

    tokio::time::sleep(Duration::from_secs(3600)).await;
    let mut seen: Vec<String> = server.lock().unwrap().requests.iter().map(|(request, _)| request.clone()).collect();
    seen.sort_unstable();
    let lists = [
        "GET /api/v1/namespaces/team/pods",
        "GET /apis/callplane.io/v1alpha1/callrooms",
        "GET /apis/callplane.io/v1alpha1/namespaces/team/mediapools",
        "GET /apis/coordination.k8s.io/v1/namespaces/team/leases",
    ];
    assert_eq!(seen, lists, "each other cache is complete, and nothing follows");
    assert_eq!((ask(&admin, "/readyz").await.0, ctx.leads(), ctx.cluster().pools().count()), (503, false, 1));

    server.lock().unwrap().silent.send_replace(vec![]);
    asked(&server, &format!("POST {LEASES}")).await;
    assert_eq!(ask(&admin, "/readyz").await.0, 200);
    asked(&server, &format!("POST {NODES}")).await;
    assert!(ctx.leads());
    let holder = || stored::<Lease>(&server, LEASE_NAME).unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder().as_deref(), Some("me"));

    stop.cancel();
    candidacy.await.unwrap();
    assert_eq!((holder().as_deref(), ctx.leads()), (Some(""), false), "it is given back");
}
