//! When a client is told how to reach the media loop.

use std::pin::pin;

use tokio::sync::mpsc;

use super::*;

/// Carries out what is asked of the loop until it is to confirm, and lets nothing be answered before.
async fn confirm<T>(
    orders: &mut mpsc::Receiver<(usize, MediaOrder)>,
    request: impl Future<Output = Result<T, Refusal>>,
) -> (Vec<Command>, T) {
    let mut request = pin!(request);
    let mut before = Vec::new();
    let done = loop {
        tokio::select! {
            biased;
            _ = &mut request => panic!("answered before the media loop was there: {before:?}"),
            order = orders.recv() => match order.unwrap().1 {
                MediaOrder::Command(command) => before.push(command),
                MediaOrder::Confirm(done) => break done,
                MediaOrder::Ask(..) => panic!("nothing was asked"),
            },
        }
    };
    done.send(()).unwrap();
    (before, request.await.unwrap())
}

#[tokio::test]
async fn credentials_are_told_when_the_media_loop_knows_them() {
    let (orders, mut given) = mpsc::channel(16);
    let (_news, events) = mpsc::channel(16);
    let media = Media { orders, events, next_worker: Box::new(|| 0) };
    let (directory, _) = Directory::start(settings(), StdRng::seed_from_u64(1), media);
    let rules = MediaRules::default();
    let assignment = Assignment { key: key(), uid: "uid".into(), epoch: 3, max_participants: 3, rules };
    directory.serve(assignment).await.unwrap();

    let create = directory.run(|turn| turn.create_transport(&access("ann"), Direction::Send));
    let (before, created) = confirm(&mut given, create).await;
    assert!(matches!(before.as_slice(), [Command::CreateTransport { .. }]), "{before:?}");

    let id = created.unwrap().id;
    let restart = directory.run(move |turn| turn.restart_ice(&access("ann"), &id));
    let (before, restarted) = confirm(&mut given, restart).await;
    assert!(matches!(before.as_slice(), [Command::RestartIce { .. }]), "{before:?}");
    assert!(restarted.is_ok());

    drop(given);
    let gone = directory.run(|turn| turn.create_transport(&access("bob"), Direction::Send)).await;
    assert!(matches!(gone, Err(Refusal::Busy)), "without its loop the node has nothing to tell: {gone:?}");
}
