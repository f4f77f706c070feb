//! The event socket over real connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use callplane_media_node::{
    api::EventTimeouts,
    core::command::{Command, Event, Layers},
    rooms::{Reason, RoomKey},
};
use common::{CALL, Options, Server, capture, claims};
use futures::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, handshake::client::Response},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(
    server: &Server,
    headers: &[(&'static str, String)],
) -> Result<(Socket, Response), tungstenite::Error> {
    let url = format!("ws://{}/api/rooms/{CALL}/events", server.address);
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await
}

async fn listen(server: &Server, user: &str) -> Socket {
    let (socket, speaker) = greeted(server, user).await;
    assert_eq!(speaker, json!({}), "nobody speaks");
    socket
}

/// A socket that has heard of the room, and who speaks there.
async fn greeted(server: &Server, user: &str) -> (Socket, Value) {
    let authorization = format!("Bearer {}", server.token(user));
    let (mut socket, _) = connect(server, &[("authorization", authorization)]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "room");
    let mut second = next(&mut socket).await;
    assert_eq!(second["type"], "active-speaker");
    (socket, second["data"].take())
}

/// The next message; pings are answered on the way.
async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("a message in time");
        match message.expect("the socket is open").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(_) => return Value::Null,
            _ => (),
        }
    }
}

#[tokio::test]
async fn a_browser_brings_its_token_as_a_subprotocol() {
    let server = Server::with_room().await;
    let protocols = format!("callplane.v1, bearer.{}", server.token("ann"));
    let (mut socket, response) = connect(&server, &[("sec-websocket-protocol", protocols)]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "callplane.v1", "the token does not come back");
    let first = next(&mut socket).await;
    assert_eq!((&first["type"], &first["data"]["id"]), (&json!("room"), &json!(CALL)));
    assert_eq!(first["data"]["participants"][0]["id"], "ann", "listening is joining");
}

#[tokio::test]
async fn without_a_good_token_there_is_no_socket() {
    let server = Server::with_room().await;
    for protocols in ["callplane.v1", "callplane.v1, bearer.a.b.c"] {
        let refused = connect(&server, &[("sec-websocket-protocol", protocols.into())]).await;
        let Err(tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_others_are_told_what_happens_and_in_order() {
    let server = Server::with_room().await;
    let mut ann = listen(&server, "ann").await;
    let mut bob = listen(&server, "bob").await;
    let joined = next(&mut ann).await;
    assert_eq!(
        (&joined["type"], &joined["data"]["id"], &joined["data"]["role"]),
        (&json!("participant-joined"), &json!("bob"), &json!("participant"))
    );

    let send = server.transport("bob", "send").await;
    let produce = capture("12-produce-audio-opus")["request"].clone();
    let (_, produced) = server.post("bob", &format!("/transports/{send}/produce"), produce).await;
    let new = next(&mut ann).await;
    let expected = json!({"id": produced["id"], "participantId": "bob", "kind": "audio", "type": "simple", "paused": false, "appData": {"tag": "opus"}});
    assert_eq!(new, json!({"type": "new-producer", "data": expected}));

    let recv = server.transport("ann", "recv").await;
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": produced["id"], "rtpCapabilities": capabilities});
    let (_, consumed) = server.post("ann", "/consume", wanted).await;
    let producer = produced["id"].as_str().unwrap();
    let ids = json!({"consumerId": consumed["id"], "producerId": producer});
    let orders = server.orders();
    let consumer = orders.iter().find_map(|order| match order {
        Command::Consume { consumer, transport, .. } => Some((*consumer, *transport)),
        _ => None,
    });
    let (consumer, transport) = consumer.unwrap();
    let layers = Layers { spatial: 1, temporal: 2 };
    server.events.send(Event::LayersChanged { consumer, transport, layers }).await.unwrap();
    let data = json!({"consumerId": consumed["id"], "spatialLayer": 1, "temporalLayer": 2});
    assert_eq!(next(&mut ann).await, json!({"type": "layers-changed", "data": data}));

    let media = orders.iter().find_map(|order| match order {
        Command::Produce { producer, transport, .. } => Some((*producer, *transport)),
        _ => None,
    });
    let (media, transport) = media.unwrap();
    for (spatial, told) in [(None, json!(null)), (Some(1), json!(1))] {
        server.events.send(Event::LayersWanted { producer: media, transport, spatial }).await.unwrap();
        let data = json!({"producerId": produced["id"], "spatialLayer": told});
        let event = json!({"type": "producer-layers-wanted", "data": data});
        assert_eq!(next(&mut bob).await, event);
        // Whoever comes back hears what it may have missed.
        let mut again = listen(&server, "bob").await;
        assert_eq!(next(&mut again).await, event);
    }
    for (action, event) in [("pause", "consumer-paused"), ("resume", "consumer-resumed")] {
        server.post("bob", &format!("/producers/{producer}/{action}"), json!({})).await;
        let mut data = ids.clone();
        data["reason"] = json!("producer");
        assert_eq!(next(&mut ann).await, json!({"type": event, "data": data}));
    }
    for (paused, event) in [(true, "consumer-paused"), (false, "consumer-resumed")] {
        server.events.send(Event::BandwidthPaused { consumer, transport, paused }).await.unwrap();
        let mut data = ids.clone();
        data["reason"] = json!("bandwidth");
        assert_eq!(next(&mut ann).await, json!({"type": event, "data": data}));
    }
    server.post("bob", "/participants/bob/leave", json!({})).await;
    assert_eq!(next(&mut ann).await, json!({"type": "consumer-closed", "data": ids}));
    assert_eq!(next(&mut ann).await["type"], "producer-closed");
    assert_eq!(next(&mut ann).await, json!({"type": "participant-left", "data": {"id": "bob"}}));
    // Bob hears of ann, then that he has left, and his socket closes.
    assert_eq!(next(&mut bob).await["type"], "participant-left");
    assert_eq!(next(&mut bob).await, Value::Null);
}

#[tokio::test]
async fn who_comes_or_comes_back_is_told_who_speaks() {
    let server = Server::with_room().await;
    let mut ann = listen(&server, "ann").await;
    let send = server.transport("ann", "send").await;
    let produce = capture("12-produce-audio-opus")["request"].clone();
    let (_, produced) = server.post("ann", &format!("/transports/{send}/produce"), produce).await;
    let orders = server.orders();
    let (mut room, mut media) = (None, None);
    for order in &orders {
        match order {
            Command::CreateTransport { room: created, .. } => room = Some(*created),
            Command::Produce { producer, .. } => media = Some(*producer),
            _ => (),
        }
    }
    let room = room.unwrap();
    let speaks = json!({"producerId": produced["id"], "participantId": "ann"});
    for (producer, told) in [(media, &speaks), (None, &json!({}))] {
        server.events.send(Event::ActiveSpeaker { room, producer }).await.unwrap();
        assert_eq!(next(&mut ann).await, json!({"type": "active-speaker", "data": told}));
        for user in ["bob", "ann"] {
            assert_eq!(greeted(&server, user).await.1, *told, "{user}, without waiting for the next change");
        }
        // Bob came, and has nothing by which he would stay.
        server.post("bob", "/participants/bob/leave", json!({})).await;
        assert_eq!(next(&mut ann).await["type"], "participant-joined");
        assert_eq!(next(&mut ann).await["type"], "participant-left");
    }
    // What ended is nobody's voice any more, even before the media loop says so.
    server.events.send(Event::ActiveSpeaker { room, producer: media }).await.unwrap();
    assert_eq!(next(&mut ann).await["data"], speaks);
    let producer = produced["id"].as_str().unwrap();
    assert!(server.delete("ann", &format!("/producers/{producer}")).await.0.is_success());
    assert_eq!(greeted(&server, "bob").await.1, json!({}));
}

#[tokio::test]
async fn a_participant_with_a_socket_and_nothing_else_leaves_with_it() {
    let server = Server::with_room().await;
    let mut ann = listen(&server, "ann").await;
    let mut bob = listen(&server, "bob").await;
    server.transport("bob", "send").await;
    assert_eq!(next(&mut ann).await["type"], "participant-joined");
    bob.close(None).await.unwrap();
    // His transport never connected: he has 30 s to come back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.directory.totals().participants, 2);
    let mut again = listen(&server, "bob").await;
    again.send(Message::Text("anything".into())).await.unwrap();
    server.post("bob", "/participants/bob/leave", json!({})).await;
    assert_eq!(next(&mut ann).await["type"], "participant-left", "coming back was no second joining");
}

#[tokio::test]
async fn the_end_of_a_room_is_told_before_the_sockets_close() {
    for (reason, expected) in [
        (Reason::Ended, json!({"type": "room-closed", "data": {"reason": "ended"}})),
        (Reason::Moved, json!({"type": "route-changed", "data": {"reason": "moved", "servedEpoch": 3}})),
    ] {
        let server = Server::with_room().await;
        let mut ann = listen(&server, "ann").await;
        server.directory.release(RoomKey::of_call_room(CALL).unwrap(), reason).await.unwrap();
        assert_eq!(next(&mut ann).await, expected);
        assert_eq!(next(&mut ann).await, Value::Null);
    }
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_dropped_and_holds_nobody_up() {
    let server = Server::with_room().await;
    let mut ann = listen(&server, "ann").await;
    let access = claims("deaf").access(false).unwrap();
    let mut deaf = server.directory.subscribe(access).await.unwrap();
    assert_eq!(next(&mut ann).await["type"], "participant-joined");
    let send = server.transport("ann", "send").await;
    let produce = capture("12-produce-audio-opus")["request"].clone();
    let (_, produced) = server.post("ann", &format!("/transports/{send}/produce"), produce).await;
    let producer = produced["id"].as_str().unwrap();
    let recv = server.transport("deaf", "recv").await;
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": producer, "rtpCapabilities": capabilities});
    assert_eq!(server.post("deaf", "/consume", wanted).await.0, StatusCode::CREATED);
    // Three are queued already; each change of the track is one more.
    for round in 0..300 {
        let action = if round % 2 == 0 { "pause" } else { "resume" };
        let (status, _) = server.post("ann", &format!("/producers/{producer}/{action}"), json!({})).await;
        assert_eq!(status, StatusCode::OK);
    }
    let mut queued = 0;
    while deaf.messages.recv().await.is_some() {
        queued += 1;
    }
    assert_eq!(queued, 256, "what was queued can still be read, and then it ends");
    assert_eq!(server.directory.run(|turn| turn.registry.sockets()).await.unwrap(), 1);
}

/// However busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

/// An event socket that nobody reads, and that answers nothing.
async fn deaf(server: &Server, user: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!(
        "GET /api/rooms/{CALL}/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token(user)
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

async fn sockets(server: &Server) -> usize {
    server.directory.run(|turn| turn.registry.sockets()).await.unwrap()
}

#[tokio::test]
async fn a_socket_whose_client_is_dead_is_closed_after_a_few_pings() {
    let [ping, silence] = [100, 700].map(Duration::from_millis);
    let event_timeouts = EventTimeouts { ping, silence, send: NEVER };
    let server = Server::with_room_and(Options { event_timeouts, ..Options::default() }).await;
    let mut dead = deaf(&server, "ann").await;
    assert_eq!(sockets(&server).await, 1);
    // The system takes what comes, as it does for a page that has been frozen; nobody answers.
    let mut received = Vec::new();
    tokio::time::timeout(PATIENCE, dead.read_to_end(&mut received)).await.expect("it is closed").unwrap();
    let close = [0x88, 26, 0x03, 0xf0];
    assert!(received.windows(4).any(|bytes| bytes == close), "with 1008, and a reason");
    assert!(received.windows(2).filter(|bytes| *bytes == [0x89, 0]).count() >= 2, "after pings");
    assert_eq!(sockets(&server).await, 0);
}

#[tokio::test]
async fn a_socket_whose_client_reads_nothing_is_given_up_and_holds_nobody_up() {
    let event_timeouts = EventTimeouts { ping: NEVER, silence: NEVER, send: Duration::from_millis(500) };
    let send_buffer = Some(4096);
    let server = Server::with_room_and(Options { event_timeouts, send_buffer, ..Options::default() }).await;
    let mut ann = listen(&server, "ann").await;
    let mut stuck = deaf(&server, "stuck").await;
    assert_eq!(next(&mut ann).await["type"], "participant-joined");
    let send = server.transport("ann", "send").await;
    let produce = capture("12-produce-audio-opus")["request"].clone();
    let (_, produced) = server.post("ann", &format!("/transports/{send}/produce"), produce).await;
    let producer = produced["id"].as_str().unwrap();
    let recv = server.transport("stuck", "recv").await;
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": producer, "rtpCapabilities": capabilities});
    assert_eq!(server.post("stuck", "/consume", wanted).await.0, StatusCode::CREATED);
    // More than the system holds for it, and fewer than may wait in its queue.
    for round in 0..240 {
        let action = if round % 2 == 0 { "pause" } else { "resume" };
        let (status, _) = server.post("ann", &format!("/producers/{producer}/{action}"), json!({})).await;
        assert_eq!(status, StatusCode::OK, "others are not held up");
    }
    let given_up = async {
        while sockets(&server).await > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("it is given up");
    let mut received = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stuck.read_to_end(&mut received)).await;
    assert!(end.is_ok(), "its connection is over");
    let told = String::from_utf8_lossy(&received).matches("consumer-paused").count();
    assert!(told < 120, "it was not told all: {told}");
    let _bob = listen(&server, "bob").await;
    assert_eq!(next(&mut ann).await["data"]["id"], "bob", "others are told as before");
}
