//! A connection of the crate `webrtc` with the codecs of the tests, and its own defaults in everything else.

use std::sync::Arc;

use anyhow::{Context, Result};
use rtc::{
    interceptor::{Registry, Slot},
    peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8},
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
    },
};
use tokio::sync::mpsc;
use webrtc::{
    media_stream::{track_local::TrackLocal, track_remote::TrackRemote},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, register_default_interceptors,
    },
};

use crate::{key_frames::KeyFrameRequests, relay::Relay};

/// Payload types in our offers.
pub const VP8: u8 = 96;
const OPUS: u8 = 111;
/// Nearer to the application than anything that is there by default: whatever reads RTCP has read it by then.
const LAST: usize = 14_000;

/// One connection.
pub struct Connection {
    inner: Arc<dyn PeerConnection>,
    gathered: mpsc::Receiver<()>,
}

impl Connection {
    /// A connection on one address of this machine. What it receives goes to `relay`.
    pub async fn new(address: &str, relay: Arc<Relay>) -> Result<Self> {
        let mut engine = MediaEngine::default();
        engine.register_codec(parameters(opus(), OPUS), RtpCodecKind::Audio)?;
        engine.register_codec(parameters(vp8(), VP8), RtpCodecKind::Video)?;
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        // Said once, and waited for once.
        let (tell, gathered) = mpsc::channel(1);
        let inner = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry.with(Slot::from(LAST), KeyFrameRequests::default()))
            .with_handler(Arc::new(Handler { gathered: tell, relay }))
            .with_udp_addrs(vec![format!("{address}:0")])
            .build()
            .await?;
        Ok(Self { inner: Arc::new(inner), gathered })
    }

    /// Will send this track.
    pub async fn send(&self, track: Arc<dyn TrackLocal>) -> Result<()> {
        self.inner.add_transceiver_from_track(track, Some(init(RTCRtpTransceiverDirection::Sendonly))).await?;
        Ok(())
    }

    /// Wants a track of each of these kinds.
    pub async fn receive(&self, kinds: &[RtpCodecKind]) -> Result<()> {
        for kind in kinds {
            let init = init(RTCRtpTransceiverDirection::Recvonly);
            self.inner.add_transceiver_from_kind(*kind, Some(init)).await?;
        }
        Ok(())
    }

    /// Its offer, with all candidates.
    pub async fn offer(&mut self) -> Result<String> {
        self.inner.set_local_description(self.inner.create_offer(None).await?).await?;
        self.gathered.recv().await.context("it ended while it gathered candidates")?;
        Ok(self.inner.local_description().await.context("it has no offer")?.sdp)
    }

    /// Takes the answer; it connects by itself then.
    pub async fn answered(&self, sdp: String) -> Result<()> {
        Ok(self.inner.set_remote_description(RTCSessionDescription::answer(sdp)?).await?)
    }

    /// Ends it.
    pub async fn close(self) -> Result<()> {
        Ok(self.inner.close().await?)
    }
}

struct Handler {
    gathered: mpsc::Sender<()>,
    relay: Arc<Relay>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            // A second one has nobody waiting.
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let relay = self.relay.clone();
        if track.kind().await == RtpCodecKind::Video {
            tokio::spawn(async move { relay.pictures(track.as_ref()).await });
        } else {
            tokio::spawn(async move { relay.sound(track.as_ref()).await });
        }
    }
}

fn init(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit { direction, ..RTCRtpTransceiverInit::default() }
}

pub fn vp8() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: MIME_TYPE_VP8.to_owned(), clock_rate: 90_000, ..RTCRtpCodec::default() }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: MIME_TYPE_OPUS.to_owned(), clock_rate: 48_000, channels: 2, ..RTCRtpCodec::default() }
}

fn parameters(rtp_codec: RTCRtpCodec, payload_type: u8) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters { rtp_codec, payload_type }
}
