//! Statistics and priorities over HTTP: mediasoup's fields, and whose they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;

use callplane_media_node::{
    auth::Claims,
    core::{
        Answer, ConsumerStats, DataStats, DtlsState, Feedback, Flow, IceState, ProducerStats, Protocol, Question,
        SctpState, SelectedTuple, StreamStats, TransportStats,
        command::{Command, Layers, TransportState},
    },
    rooms::Role,
};
use common::{CALL, Server, answer, capture, claims};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What every `inbound-rtp` and `outbound-rtp` of mediasoup 3.15 has.
const STREAM: [&str; 18] = [
    "type",
    "timestamp",
    "ssrc",
    "kind",
    "mimeType",
    "packetCount",
    "byteCount",
    "bitrate",
    "packetsLost",
    "fractionLost",
    "packetsDiscarded",
    "packetsRetransmitted",
    "packetsRepaired",
    "nackCount",
    "nackPacketCount",
    "pliCount",
    "firCount",
    "score",
];

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn with(extra: &[&'static str]) -> BTreeSet<&'static str> {
    STREAM.iter().chain(extra).copied().collect()
}

fn flow(bytes: u64, bitrate: u64) -> Flow {
    Flow { packets: 1, bytes, bitrate }
}

fn transport() -> TransportStats {
    TransportStats {
        state: TransportState::Connected,
        ice: IceState::Completed,
        dtls: DtlsState::Connected,
        sctp: Some(SctpState::Connecting),
        tuple: Some(SelectedTuple {
            protocol: Protocol::Tcp,
            local: "127.0.0.1".parse().unwrap(),
            remote: "192.0.2.9:5000".parse().unwrap(),
        }),
        producers: 1,
        consumers: 0,
        received: flow(1, 2),
        sent: flow(3, 4),
        rtp_received: flow(5, 6),
        rtp_sent: flow(7, 8),
        rtx_received: flow(9, 10),
        rtx_sent: flow(11, 12),
        probation_sent: flow(13, 14),
        available_outgoing_bitrate: Some(15),
        available_incoming_bitrate: None,
        max_incoming_bitrate: Some(17),
        rtp_packet_loss_received: Some(0.25),
        rtp_packet_loss_sent: None,
    }
}

fn stream(ssrc: Option<u32>, packets: u64) -> StreamStats {
    StreamStats {
        ssrc,
        rtx_ssrc: ssrc.map(|ssrc| ssrc + 1),
        rid: Some("r0".into()),
        packets,
        bytes: 1000,
        bitrate: 8000,
        layers: vec![(Layers { spatial: 0, temporal: 1 }, 8000)],
        lost: 1,
        fraction_lost: 2,
        jitter: 3,
        discarded: 4,
        rtx_discarded: 5,
        resent: 6,
        repaired: 7,
        nacks: 8,
        nacked: 9,
        plis: 10,
        score: 9,
    }
}

fn consumer(feedback: Option<Feedback>) -> Option<Answer> {
    Some(Answer::Consumer(Box::new(ConsumerStats {
        paused: false,
        layers: Some(Layers::ALL),
        ssrc: 77,
        rtx_ssrc: Some(78),
        sent: flow(900, 7000),
        resent: 1,
        repaired: 2,
        discarded: 3,
        nacks: 4,
        nacked: 5,
        plis: 6,
        firs: 7,
        feedback,
        score: 8,
        stream: Some(stream(Some(11), 5)),
    })))
}

struct Call {
    server: Server,
    send: String,
    recv: String,
    producer: String,
    consumer: String,
    data_producer: String,
    data_consumer: String,
}

/// Ann publishes a camera and a data channel, Bob subscribes to both.
async fn call() -> Call {
    let server = Server::with_room().await;
    let mut transports = Vec::new();
    for (user, direction) in [("ann", "send"), ("bob", "recv")] {
        let body = json!({"direction": direction, "enableSctp": true});
        transports.push(id(server.post(user, "/transports", body).await));
    }
    let [send, recv] = transports.try_into().unwrap();
    let produce = capture("13-produce-video-vp8-simulcast")["request"].clone();
    let producer = id(server.post("ann", &format!("/transports/{send}/produce"), produce).await);
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": producer, "rtpCapabilities": capabilities});
    let consumer = id(server.post("bob", "/consume", wanted).await);
    let channel = json!({"sctpStreamParameters": {"streamId": 0, "ordered": true}, "label": "chat", "protocol": "p"});
    let data_producer = id(server.post("ann", &format!("/transports/{send}/produce-data"), channel).await);
    let wanted = json!({"transportId": recv, "dataProducerId": data_producer});
    let data_consumer = id(server.post("bob", "/consume-data", wanted).await);
    server.orders();
    Call { server, send, recv, producer, consumer, data_producer, data_consumer }
}

fn id((status, body): (StatusCode, Value)) -> String {
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_transport_says_what_mediasoup_says() {
    let Call { server, send, .. } = call().await;
    let path = format!("/transports/{send}");
    let (status, body) = server.stats("ann", &path, |_| Some(Answer::Transport(Box::new(transport())))).await;
    assert_eq!((status, body.as_array().unwrap().len()), (StatusCode::OK, 1));
    let mut stat = body[0].clone();
    assert!(stat["timestamp"].take().as_i64().is_some_and(|at| at > 1_700_000_000_000), "milliseconds since 1970");
    assert_eq!(
        stat,
        json!({
            "type": "webrtc-transport", "transportId": send, "timestamp": null, "sctpState": "connecting",
            "iceRole": "controlled", "iceState": "completed", "dtlsState": "connected",
            "iceSelectedTuple": {
                "localIp": "127.0.0.1", "localAddress": "127.0.0.1", "localPort": 40000,
                "remoteIp": "192.0.2.9", "remotePort": 5000, "protocol": "tcp",
            },
            "bytesReceived": 1, "recvBitrate": 2, "bytesSent": 3, "sendBitrate": 4,
            "rtpBytesReceived": 5, "rtpRecvBitrate": 6, "rtpBytesSent": 7, "rtpSendBitrate": 8,
            "rtxBytesReceived": 9, "rtxRecvBitrate": 10, "rtxBytesSent": 11, "rtxSendBitrate": 12,
            "probationBytesSent": 13, "probationSendBitrate": 14,
            "availableOutgoingBitrate": 15, "maxIncomingBitrate": 17, "rtpPacketLossReceived": 0.25,
        })
    );
}

#[tokio::test]
async fn a_producer_says_of_each_stream_what_has_come() {
    let Call { server, producer, .. } = call().await;
    let streams = vec![stream(Some(11), 5), stream(None, 0), stream(Some(13), 0)];
    let stats = ProducerStats { paused: false, streams };
    let path = format!("/producers/{producer}");
    let (_, body) = server.stats("ann", &path, |_| Some(Answer::Producer(stats))).await;
    let [stat] = body.as_array().unwrap().as_slice() else { panic!("nothing has come of the others: {body}") };
    assert_eq!(keys(stat), with(&["rtxSsrc", "rid", "jitter", "bitrateByLayer", "rtxPacketsDiscarded"]));
    let values = ["type", "kind", "mimeType", "ssrc", "rtxSsrc", "rid"].map(|key| stat[key].clone());
    assert_eq!(json!(values), json!(["inbound-rtp", "video", "video/VP8", 11, 12, "r0"]));
    let numbers = [
        ("packetCount", 5),
        ("byteCount", 1000),
        ("bitrate", 8000),
        ("packetsLost", 1),
        ("fractionLost", 2),
        ("jitter", 3),
        ("packetsDiscarded", 4),
        ("rtxPacketsDiscarded", 5),
        ("packetsRetransmitted", 6),
        ("packetsRepaired", 7),
        ("nackCount", 8),
        ("nackPacketCount", 9),
        ("pliCount", 10),
        ("firCount", 0),
        ("score", 9),
    ];
    for (key, value) in numbers {
        assert_eq!(stat[key], json!(value), "{key}");
    }
    assert_eq!(stat["bitrateByLayer"], json!({"0.1": 8000}));
}

#[tokio::test]
async fn a_consumer_says_what_it_sends_and_of_what() {
    let Call { server, consumer: id, .. } = call().await;
    let path = format!("/consumers/{id}");
    let feedback = Feedback { fraction_lost: 9, lost: 10, jitter: 11, round_trip_micros: Some(12_500) };
    let (_, body) = server.stats("bob", &path, |_| consumer(Some(feedback))).await;
    let [sent, source] = body.as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!(keys(sent), with(&["rtxSsrc", "jitter", "roundTripTime"]));
    assert_eq!(
        (&sent["type"], &source["type"], &source["ssrc"]),
        (&json!("outbound-rtp"), &json!("inbound-rtp"), &json!(11))
    );
    let numbers = [
        ("ssrc", json!(77)),
        ("packetCount", json!(1)),
        ("byteCount", json!(900)),
        ("packetsLost", json!(10)),
        ("fractionLost", json!(9)),
        ("jitter", json!(11)),
        ("roundTripTime", json!(12.5)),
        ("packetsDiscarded", json!(3)),
        ("packetsRetransmitted", json!(1)),
        ("packetsRepaired", json!(2)),
        ("nackCount", json!(4)),
        ("nackPacketCount", json!(5)),
        ("pliCount", json!(6)),
        ("firCount", json!(7)),
        ("score", json!(8)),
    ];
    for (key, value) in numbers {
        assert_eq!(sent[key], value, "{key}");
    }
    // What the subscriber has not reported is not zero.
    let (_, body) = server.stats("bob", &path, |_| consumer(None)).await;
    for key in ["packetsLost", "fractionLost", "jitter", "roundTripTime"] {
        assert_eq!(body[0].get(key), None, "{key}");
    }
}

#[tokio::test]
async fn data_channels_say_what_passed() {
    let Call { server, data_producer, data_consumer, .. } = call().await;
    let stats = DataStats { messages: 1, bytes: 2, buffered: 3 };
    let path = format!("/data-producers/{data_producer}");
    let (_, mut body) = server.stats("ann", &path, |_| Some(Answer::DataProducer(stats))).await;
    body[0]["timestamp"].take();
    let expected = json!([{"type": "data-producer", "timestamp": null, "label": "chat", "protocol": "p",
        "messagesReceived": 1, "bytesReceived": 2}]);
    assert_eq!(body, expected);
    let path = format!("/data-consumers/{data_consumer}");
    let (_, mut body) = server.stats("bob", &path, |_| Some(Answer::DataConsumer(stats))).await;
    body[0]["timestamp"].take();
    let expected = json!([{"type": "data-consumer", "timestamp": null, "label": "chat", "protocol": "p",
        "messagesSent": 1, "bytesSent": 2, "bufferedAmount": 3}]);
    assert_eq!(body, expected);
}

#[tokio::test]
async fn participants_read_their_own_and_moderators_everybodys() {
    let call = call().await;
    let server = &call.server;
    let (hidden, forbidden) = (StatusCode::NOT_FOUND, StatusCode::FORBIDDEN);
    let never = |question: Question| -> Option<Answer> { panic!("{question:?}") };
    for (user, path, status, code) in [
        ("bob", format!("/transports/{}", call.send), hidden, "transport-not-found"),
        ("ann", format!("/transports/{}", call.recv), hidden, "transport-not-found"),
        ("bob", format!("/producers/{}", call.producer), forbidden, "not-permitted"),
        ("ann", format!("/consumers/{}", call.consumer), hidden, "consumer-not-found"),
        ("bob", format!("/data-producers/{}", call.data_producer), forbidden, "not-permitted"),
        ("ann", format!("/data-consumers/{}", call.data_consumer), hidden, "data-consumer-not-found"),
        ("ann", "/transports/x".into(), hidden, "transport-not-found"),
        ("ann", "/producers/x".into(), hidden, "producer-not-found"),
        ("ann", "/consumers/x".into(), hidden, "consumer-not-found"),
        ("ann", "/data-producers/x".into(), hidden, "data-producer-not-found"),
        ("ann", "/data-consumers/x".into(), hidden, "data-consumer-not-found"),
        ("cat", format!("/transports/{}", call.send), StatusCode::CONFLICT, "not-in-room"),
    ] {
        let (found, body) = server.stats(user, &path, never).await;
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{user} {path}: {body}");
    }
    // What has ended between the question and the answer is gone as well.
    let (status, body) = server.stats("ann", &format!("/transports/{}", call.send), |_| None).await;
    assert_eq!((status, body["code"].as_str()), (hidden, Some("transport-not-found")));

    let boss = server.signer.token(&Claims { role: Role::Host, ..claims("boss") }).unwrap();
    let path = format!("/api/rooms/{CALL}/producers/{}/stats", call.producer);
    let stats = ProducerStats { paused: false, streams: vec![stream(Some(11), 5)] };
    let request = server.request(Method::GET, &path).bearer_auth(boss);
    let (status, body) = server.asking(request, |_| Some(Answer::Producer(stats))).await;
    assert_eq!((status, &body[0]["ssrc"]), (StatusCode::OK, &json!(11)), "without being in the room");
    let anonymous = answer(server.request(Method::GET, &path)).await;
    assert_eq!((anonymous.0, anonymous.1["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("token-missing")));
}

#[tokio::test]
async fn a_subscriber_weighs_what_it_gets() {
    let Call { server, consumer, .. } = call().await;
    let path = format!("/consumers/{consumer}/priority");
    let priorities = |server: &Server| -> Vec<u8> {
        let priority = |command| match command {
            Command::Prioritize { priority, .. } => Some(priority),
            _ => None,
        };
        server.orders().into_iter().filter_map(priority).collect()
    };
    assert_eq!(server.post("bob", &path, json!({"priority": 255})).await, (StatusCode::OK, json!({})));
    assert_eq!(server.delete("bob", &path).await.0, StatusCode::NO_CONTENT);
    assert_eq!(priorities(&server), [255, 1]);
    for body in [json!({}), json!({"priority": 0}), json!({"priority": 256}), json!({"priority": "1"})] {
        let (status, problem) = server.post("bob", &path, body).await;
        assert_eq!((status, problem["code"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("invalid")));
    }
    let (status, problem) = server.post("ann", &path, json!({"priority": 2})).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::NOT_FOUND, Some("consumer-not-found")));
    assert_eq!(priorities(&server), [0; 0]);
}
