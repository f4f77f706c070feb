//! What the player receives, counted, and its pictures passed on as they come.

use std::sync::{Arc, Mutex, PoisonError};

use rtc::{
    rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication,
    rtp::Packet,
    rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
};
use serde::Serialize;
use webrtc::media_stream::{
    MediaStreamTrack,
    track_local::{TrackLocal, TrackLocalEvent, static_rtp::TrackLocalStaticRTP},
    track_remote::{TrackRemote, TrackRemoteEvent},
};

use crate::{
    connection::{VP8, vp8},
    key_frames::{is_request, size_of},
};

/// Of the pictures that are passed on.
const SSRC: u32 = 0x5eed_0001;

/// What was received so far.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Ends of pictures, from the first key frame on.
    pictures: u64,
    /// Width and height that the first key frame states, in pixels.
    size: Option<(u16, u16)>,
    /// Packets of sound.
    sound: u64,
    /// Requests for key frames that came for the pictures that are passed on.
    key_frames_wanted: u64,
}

/// From the player to the publisher, and back for requests of key frames.
pub struct Relay {
    output: Arc<TrackLocalStaticRTP>,
    seen: Mutex<Seen>,
}

impl Relay {
    /// One that has seen nothing.
    pub fn new() -> Self {
        let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..RTCRtpCodingParameters::default() };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: vp8(),
            ..RTCRtpEncodingParameters::default()
        };
        let name = || "webrtc-rs".to_owned();
        let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Video, vec![encoding]);
        Self { output: Arc::new(TrackLocalStaticRTP::new(track)), seen: Mutex::default() }
    }

    /// The track that the publisher sends.
    pub fn output(&self) -> Arc<dyn TrackLocal> {
        self.output.clone()
    }

    /// What was received so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a track's packets until it ends.
    pub async fn sound(&self, track: &dyn TrackRemote) {
        while let Some(event) = track.poll().await {
            let is_packet = matches!(event, TrackRemoteEvent::OnRtpPacket(_));
            self.note(|seen| seen.sound += u64::from(is_packet));
        }
    }

    /// Passes a track on until it or the publisher ends.
    pub async fn pictures(&self, track: &dyn TrackRemote) {
        loop {
            tokio::select! {
                event = track.poll() => match event {
                    Some(TrackRemoteEvent::OnRtpPacket(packet)) => self.pass_on(packet).await,
                    Some(_) => {}
                    None => return,
                },
                event = self.output.poll() => {
                    let Some(event) = event else { return };
                    self.ask(track, &event).await;
                }
            }
        }
    }

    async fn pass_on(&self, mut packet: Packet) {
        self.note(|seen| {
            seen.size = seen.size.or_else(|| size_of(&packet.payload));
            seen.pictures += u64::from(seen.size.is_some() && packet.header.marker);
        });
        packet.header.ssrc = SSRC;
        packet.header.payload_type = VP8;
        // Their numbers mean something else on the other connection.
        packet.header.extension = false;
        packet.header.extensions.clear();
        // Before the other connection stands, and after it, there is nobody to send to.
        let _ = self.output.write_rtp(packet).await;
    }

    async fn ask(&self, track: &dyn TrackRemote, event: &TrackLocalEvent) {
        let wanted = match event {
            TrackLocalEvent::OnRtcpPacket(packets) => {
                packets.iter().filter(|packet| is_request(packet.as_ref())).count()
            }
            _ => 0,
        };
        if let Some(&media_ssrc) = track.ssrcs().await.first()
            && wanted > 0
        {
            self.note(|seen| seen.key_frames_wanted += wanted as u64);
            let request = PictureLossIndication { sender_ssrc: SSRC, media_ssrc };
            // Who is not there any more sends no key frame.
            let _ = track.write_rtcp(vec![Box::new(request)]).await;
        }
    }
}
