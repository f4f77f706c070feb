//! callplane's media node as a process of its own, over its HTTP API.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use callplane_media_node::{
    auth::{Claims, mint::Signer},
    rooms::Role,
};
use futures::StreamExt;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{super::rtp, Answer, AnsweredStream, Published, Session, Shown, Spec};
use crate::{
    clock,
    sfu::{generator::Layers, stage::Stage, stream::Expected},
};

/// A media node.
pub struct Callplane {
    child: Child,
    pid: [u32; 1],
    api: SocketAddr,
    admin: SocketAddr,
    client: Client,
    signer: Signer,
    fingerprint: String,
    /// Where its public key is.
    keys: PathBuf,
    /// Event sockets of publishers.
    sockets: JoinSet<()>,
}

/// Where cargo puts release builds: beside this program.
fn program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.with_file_name("callplane-media-node");
    ensure!(beside.exists(), "{} is not built", beside.display());
    Ok(beside)
}

fn feedback(kinds: &[(&str, &str)]) -> Vec<Value> {
    kinds.iter().map(|(kind, parameter)| json!({"type": kind, "parameter": parameter})).collect()
}

/// What a browser says of a track.
pub(in crate::sfu) fn rtp_parameters(track: Spec) -> Value {
    let video = feedback(&[("goog-remb", ""), ("transport-cc", ""), ("ccm", "fir"), ("nack", ""), ("nack", "pli")]);
    let codecs = if track.is_video() {
        json!([
            {"mimeType": "video/VP8", "payloadType": rtp::VP8, "clockRate": 90_000, "rtcpFeedback": video},
            {"mimeType": "video/rtx", "payloadType": rtp::RTX, "clockRate": 90_000, "parameters": {"apt": rtp::VP8}},
        ])
    } else {
        json!([{"mimeType": "audio/opus", "payloadType": rtp::OPUS, "clockRate": 48_000, "channels": 2,
            "rtcpFeedback": feedback(&[("transport-cc", "")])}])
    };
    let extensions: Vec<_> = rtp::EXTENSIONS.iter().map(|(uri, id)| json!({"uri": uri, "id": id})).collect();
    let encoding = |track: Spec| match track.rtx_ssrc() {
        Some(rtx) => json!({"ssrc": track.ssrc(), "rtx": {"ssrc": rtx}}),
        None => json!({"ssrc": track.ssrc()}),
    };
    let encodings: Vec<_> = track.encodings().into_iter().map(encoding).collect();
    json!({"mid": track.mid(), "codecs": codecs, "headerExtensions": extensions, "encodings": encodings,
        "rtcp": {"cname": "load", "reducedSize": true}})
}

impl Callplane {
    pub(super) async fn start(workers: usize, fingerprint: &str, log: &Path) -> Result<Self> {
        let (signer, _) = Signer::generate()?;
        let keys = log.with_extension("jwks.json");
        std::fs::write(&keys, signer.jwks())?;
        let tcp = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
        let (api, admin) = (tcp(())?, tcp(())?);
        let media = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = File::create(log)?;
        let child = Command::new(program()?)
            .args([
                "--standalone",
                "--rate-per-subject",
                "0",
                "--rate-per-address",
                "0",
                "--log",
                "warn,rtc_dtls=error",
            ])
            .args(["--api-listen", &api.to_string(), "--admin-listen", &admin.to_string()])
            .args(["--rtc-listen", &media.to_string(), "--workers", &workers.to_string()])
            .arg("--public-keys")
            .arg(&keys)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = [child.id().context("it has just been started")?];
        let client = Client::builder().timeout(Duration::from_secs(20)).build()?;
        let server = Self {
            child,
            pid,
            api,
            admin,
            client,
            signer,
            fingerprint: fingerprint.to_owned(),
            keys,
            sockets: JoinSet::new(),
        };
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(api).await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("its API does not answer")
    }

    pub(super) fn pids(&self) -> &[u32] {
        &self.pid
    }

    fn token(&self, room: &str, user: &str) -> Result<String> {
        let now = clock::wall().as_second();
        let claims = Claims {
            room_uid: None,
            sub: user.to_owned(),
            room_id: room.to_owned(),
            epoch: 1,
            role: Role::Admin,
            grants: None,
            name: None,
            exp: now + 600,
            iat: now,
            nbf: None,
        };
        Ok(self.signer.token(&claims)?)
    }

    async fn call(&self, room: &str, user: &str, method: Method, path: &str, body: Value) -> Result<Value> {
        let request = self.client.request(method, format!("http://{}/api/rooms/{room}{path}", self.api));
        let response = request.bearer_auth(self.token(room, user)?).json(&body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A transport whose client is told to connect.
    async fn transport(&self, room: &str, user: &str, direction: &str) -> Result<(String, Answer)> {
        let transport = self.call(room, user, Method::POST, "/transports", json!({"direction": direction})).await?;
        let id = transport["id"].as_str().context("a transport has an id")?.to_owned();
        let parameters = json!({"dtlsParameters": {"role": "client",
            "fingerprints": [{"algorithm": "sha-256", "value": self.fingerprint}]}});
        self.call(room, user, Method::POST, &format!("/transports/{id}/connect"), parameters).await?;
        let candidate = &transport["iceCandidates"][0];
        let ip = candidate["ip"].as_str().context("a candidate has an address")?.parse()?;
        let port = candidate["port"].as_u64().context("a candidate has a port")? as u16;
        let ice = |name: &str| transport["iceParameters"][name].as_str().unwrap_or_default().to_owned();
        let (ufrag, password) = (ice("usernameFragment"), ice("password"));
        Ok((id, Answer { address: SocketAddr::new(ip, port), ufrag, password, ids: vec![], streams: vec![] }))
    }

    pub(super) async fn open(&self, room: &str, stage: Option<&Stage>) -> Result<()> {
        let media = stage.map_or_else(|| json!({}), Stage::media);
        let body = json!({"maxParticipants": 1000, "media": media});
        self.call(room, "opener", Method::POST, "/create", body).await.map(drop)
    }

    pub(super) async fn listen(
        &mut self,
        room: &str,
        user: &str,
        tracks: Vec<Published>,
        layers: Layers,
    ) -> Result<()> {
        let mut request = format!("ws://{}/api/rooms/{room}/events", self.api).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token(room, user)?).parse()?);
        let (mut socket, _) = connect_async(request).await.context("the event socket")?;
        self.sockets.spawn(async move {
            // Pings are answered as they are read.
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                if let Some((producer, highest)) = layers_wanted(&text)
                    && let Some(track) = tracks.iter().find(|track| track.id == producer)
                    && layers.want(track.spec.number, highest).is_err()
                {
                    return;
                }
            }
        });
        Ok(())
    }

    pub(super) async fn publish(&self, room: &str, user: &str, tracks: &[Spec]) -> Result<Session<Published>> {
        let (transport, mut answer) = self.transport(room, user, "send").await?;
        for track in tracks {
            let body = json!({"kind": track.kind(), "rtpParameters": rtp_parameters(*track)});
            let path = format!("/transports/{transport}/produce");
            let producer = self.call(room, user, Method::POST, &path, body).await?;
            answer.ids.push(producer["id"].as_str().context("a producer has an id")?.to_owned());
        }
        answer.published(user, tracks)
    }

    pub(super) async fn subscribe(&self, room: &str, user: &str, wanted: &[Published]) -> Result<Session<Expected>> {
        let (transport, mut answer) = self.transport(room, user, "recv").await?;
        let capabilities = callplane_media_node::ortc::router_capabilities();
        for published in wanted {
            let body = json!({"transportId": transport, "producerId": published.id, "paused": false,
                "rtpCapabilities": capabilities});
            let consumer = self.call(room, user, Method::POST, "/consume", body).await?;
            answer.streams.push(stream_of(&consumer["rtpParameters"]).context("consumer parameters")?);
            if let Shown::Layer(layer) = published.shown {
                let id = consumer["id"].as_str().context("a consumer has an id")?;
                let path = format!("/consumers/{id}/preferred-layers");
                self.call(room, user, Method::POST, &path, json!({"spatialLayer": layer})).await?;
            }
        }
        answer.expected(wanted)
    }

    /// A participant leaves, and what it published and received ends.
    ///
    /// # Errors
    /// What the node says.
    pub async fn leave(&self, room: &str, user: &str) -> Result<()> {
        self.call(room, user, Method::POST, &format!("/participants/{user}/leave"), Value::Null).await.map(drop)
    }

    /// Its metrics, in the text format of OpenMetrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.client.get(format!("http://{}/metrics", self.admin)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    pub(super) async fn stop(&mut self) {
        self.sockets.abort_all();
        // It is killed: it would wait for its rooms otherwise.
        let _ = self.child.kill().await;
        let _ = std::fs::remove_file(&self.keys);
    }
}

/// The producer of which an event tells, and the highest of its encodings that anybody wants.
fn layers_wanted(event: &str) -> Option<(String, Option<u8>)> {
    // Most are about something else, and long.
    let event: Value = event.contains("producer-layers-wanted").then(|| serde_json::from_str(event).ok())??;
    if event["type"] != "producer-layers-wanted" {
        return None;
    }
    let data = &event["data"];
    let highest = data["spatialLayer"].as_u64().and_then(|layer| u8::try_from(layer).ok());
    Some((data["producerId"].as_str()?.to_owned(), highest))
}

/// What `consume` says of the stream that comes.
pub(in crate::sfu) fn stream_of(parameters: &Value) -> Option<AnsweredStream> {
    let encoding = &parameters["encodings"][0];
    let ssrc = |value: &Value| value.as_u64().and_then(|ssrc| u32::try_from(ssrc).ok());
    let extensions = parameters["headerExtensions"].as_array()?;
    let transport_cc = extensions.iter().find(|e| e["uri"] == rtp::TRANSPORT_CC_URI).and_then(|e| e["id"].as_u64());
    Some(AnsweredStream {
        ssrc: ssrc(&encoding["ssrc"])?,
        rtx: ssrc(&encoding["rtx"]["ssrc"]),
        transport_cc: transport_cc.map(|id| id as u8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::{
        track::{Content, LAYERS},
        video::Video,
    };

    #[test]
    fn an_event_says_which_encodings_are_wanted() {
        let event = |layer: Value| {
            json!({"type": "producer-layers-wanted", "data": {"producerId": "p", "spatialLayer": layer}}).to_string()
        };
        assert_eq!(layers_wanted(&event(json!(2))), Some(("p".to_owned(), Some(2))));
        assert_eq!(layers_wanted(&event(Value::Null)), Some(("p".to_owned(), None)));
        for other in ["", "producer-layers-wanted", r#"{"type": "room", "data": {"name": "producer-layers-wanted"}}"#] {
            assert_eq!(layers_wanted(other), None, "{other}");
        }
    }

    #[test]
    fn a_simulcast_track_has_an_encoding_for_each_of_its_sources() {
        let video = Video::Camera { bitrate: 1e6, rate: 30.0 };
        let track = Spec { number: 3, content: Content::Layers([video; LAYERS]) };
        let parameters = rtp_parameters(track);
        let encodings = parameters["encodings"].as_array().unwrap();
        let first = 0x1000_0000 + 6;
        let of = |at: u32| json!({"ssrc": first + 2 * at, "rtx": {"ssrc": first + 2 * at + 1}});
        assert_eq!(*encodings, [of(0), of(1), of(2)]);
    }
}
