//! Rooms on several event loops.

use super::*;

/// Two rooms, each on the loop that the handle chose for it, with a publisher and a subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_spread_over_loops_and_each_stays_on_its_own() {
    let (media, _task) = start(local()).unwrap();
    let workers = [media.worker_for_new_room(), media.worker_for_new_room()];
    assert_ne!(workers[0], workers[1]);
    let mut peers = Vec::new();
    for (room, worker) in workers.into_iter().enumerate() {
        for id in [1, 2] {
            peers.push(Peer::new(&media, worker, room as u64 * 10 + id).await);
        }
    }
    let deadline = clock() + Duration::from_secs(30);
    while !peers.iter().all(|peer| peer.client.connected) {
        assert!(clock() < deadline, "no connection");
        for peer in &mut peers {
            peer.turn().await;
        }
    }
    for (room, worker) in workers.into_iter().enumerate() {
        let id = |id| room as u64 * 10 + id;
        let track = Outgoing::new(TrackKind::Vp8 { packets: 3 }, "0", 4242, clock());
        let spec = Outgoing::spec(&[&track]);
        let (producer, consumer) = (ProducerId(id(1)), ConsumerId(id(2)));
        media.send(worker, Command::Produce { producer, transport: TransportId(id(1)), spec }).await.unwrap();
        peers[room * 2].client.tracks.push(track);
        let order = Command::Consume { consumer, transport: TransportId(id(2)), producer, spec: consumer_spec() };
        media.send(worker, order).await.unwrap();
    }
    while !peers.iter().skip(1).step_by(2).all(|peer| peer.client.receiver.count(9000) > 60) {
        assert!(clock() < deadline, "no media: {:?}", media.stats());
        for peer in &mut peers {
            peer.turn().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    for worker in workers {
        let stats = media.worker_stats(worker).unwrap();
        assert_eq!((stats.gauge(Gauge::Rooms), stats.gauge(Gauge::Connected)), (1, 2), "worker {worker}");
        assert!(stats.counter(Counter::RtpOut) > 60);
    }
    // What is asked of the wrong loop is not there, and does no harm to the right one.
    media.send(workers[0], Command::CloseTransport { transport: TransportId(11) }).await.unwrap();
    assert!(transport(&media, workers[0], 11).await.is_none());
    assert!(transport(&media, workers[1], 11).await.is_some());
    // A third room goes to whichever has less to do.
    media.send(workers[1], Command::CloseTransport { transport: TransportId(11) }).await.unwrap();
    media.send(workers[1], Command::CloseTransport { transport: TransportId(12) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(media.worker_for_new_room(), workers[1]);
}
