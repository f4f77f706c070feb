//! What the router offers: each codec with RTX, in mediasoup's numbers.
//!
//! To add a codec: a line in [`CODECS`], its profile comparison in `profile.rs`, and its payload in the core's
//! `codec` folder.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::parameters::Codec as _;
use super::parameters::{
    Direction, Kind, RtcpFeedback, RtpCapabilities, RtpCodecCapability, RtpHeaderExtension, extension_uri,
};
use crate::core::command::ExtensionKind;

/// First payload type that is given out; each codec takes one, and a video codec one more for RTX.
const FIRST_PAYLOAD_TYPE: u8 = 100;

/// RTCP feedback by type and parameter.
type Feedback = &'static [(&'static str, &'static str)];

const AUDIO_FEEDBACK: Feedback = &[("nack", ""), ("transport-cc", "")];
const VIDEO_FEEDBACK: Feedback =
    &[("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")];

/// A media codec; `channels` tells sound from pictures.
struct Offer {
    mime_type: &'static str,
    clock_rate: u32,
    channels: Option<u8>,
    parameters: fn() -> Vec<(&'static str, Value)>,
}

const fn video(mime_type: &'static str, parameters: fn() -> Vec<(&'static str, Value)>) -> Offer {
    Offer { mime_type, clock_rate: 90_000, channels: None, parameters }
}

/// `profile-level-id` and `packetization-mode` of RFC 6184 §8.1.
fn h264(profile: &'static str, mode: u8) -> Vec<(&'static str, Value)> {
    vec![
        ("level-asymmetry-allowed", 1.into()),
        ("packetization-mode", mode.into()),
        ("profile-level-id", profile.into()),
    ]
}

/// In order of preference. The first ones are those of a mediasoup router; a client that picks by kind alone
/// gets the first of it that it knows.
const CODECS: [Offer; 10] = [
    Offer { mime_type: "audio/opus", clock_rate: 48_000, channels: Some(2), parameters: Vec::new },
    video("video/VP8", Vec::new),
    video("video/VP9", || vec![("profile-id", 0.into())]),
    video("video/H264", || h264("42e01f", 1)),
    video("video/H264", || h264("42e01f", 0)),
    video("video/H264", || h264("4d001f", 1)),
    video("video/H264", || h264("4d001f", 0)),
    video("video/AV1", || vec![("profile", 0.into())]),
    video("video/VP9", || vec![("profile-id", 2.into())]),
    // Last: who takes the first codec of a kind gets Opus. `a=fmtp` has no name for what RED carries (RFC 2198 §5); with an
    // empty one, clients that write `name=value` write something that browsers read as the same.
    Offer {
        mime_type: "audio/red",
        clock_rate: 48_000,
        channels: Some(2),
        parameters: || vec![("", format!("{FIRST_PAYLOAD_TYPE}/{FIRST_PAYLOAD_TYPE}").into())],
    },
];

/// Extensions with their ids in the router. Audio takes no transport-cc towards subscribers, and stream
/// ids are only ever received, as in mediasoup.
const HEADER_EXTENSIONS: [(Kind, ExtensionKind, u8, Direction); 14] = [
    (Kind::Audio, ExtensionKind::Mid, 1, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::Mid, 1, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::Rid, 2, Direction::Recvonly),
    (Kind::Video, ExtensionKind::RepairedRid, 3, Direction::Recvonly),
    (Kind::Audio, ExtensionKind::AbsSendTime, 4, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::AbsSendTime, 4, Direction::Sendrecv),
    (Kind::Audio, ExtensionKind::TransportCc, 5, Direction::Recvonly),
    (Kind::Video, ExtensionKind::TransportCc, 5, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::DependencyDescriptor, 8, Direction::Sendrecv),
    (Kind::Audio, ExtensionKind::AudioLevel, 10, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::VideoOrientation, 11, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::TransmissionOffset, 12, Direction::Sendrecv),
    (Kind::Audio, ExtensionKind::PlayoutDelay, 14, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::PlayoutDelay, 14, Direction::Sendrecv),
];

/// Capabilities of every router.
pub fn router_capabilities() -> &'static RtpCapabilities {
    static CAPABILITIES: LazyLock<RtpCapabilities> = LazyLock::new(build);
    &CAPABILITIES
}

fn build() -> RtpCapabilities {
    let mut codecs = Vec::new();
    let mut next = FIRST_PAYLOAD_TYPE..;
    for Offer { mime_type, clock_rate, channels, parameters } in CODECS {
        let payload_type = next.next();
        let (kind, feedback) = match channels {
            Some(_) => (Kind::Audio, AUDIO_FEEDBACK),
            None => (Kind::Video, VIDEO_FEEDBACK),
        };
        codecs.push(RtpCodecCapability {
            kind,
            mime_type: mime_type.into(),
            preferred_payload_type: payload_type,
            clock_rate,
            channels,
            parameters: parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            rtcp_feedback: feedback
                .iter()
                .map(|(r#type, parameter)| RtcpFeedback { r#type: (*r#type).into(), parameter: (*parameter).into() })
                .collect(),
        });
        if kind == Kind::Video {
            codecs.push(RtpCodecCapability {
                kind,
                mime_type: "video/rtx".into(),
                preferred_payload_type: next.next(),
                clock_rate,
                channels: None,
                parameters: Map::from_iter([("apt".to_owned(), Value::from(payload_type))]),
                rtcp_feedback: Vec::new(),
            });
        }
    }
    let header_extensions = HEADER_EXTENSIONS
        .into_iter()
        .map(|(kind, extension, preferred_id, direction)| RtpHeaderExtension {
            kind,
            uri: extension_uri(extension).into(),
            preferred_id,
            preferred_encrypt: false,
            direction,
        })
        .collect();
    RtpCapabilities { codecs, header_extensions }
}

/// The router's capabilities with only these video codecs, named as the subtypes of their media types, in this order:
/// clients choose the first one that they have, too.
pub fn with_video_codecs(subtypes: &[String]) -> RtpCapabilities {
    let router = router_capabilities();
    let mut codecs: Vec<_> = router.codecs.iter().filter(|codec| codec.kind == Kind::Audio).cloned().collect();
    for subtype in subtypes {
        let is_it = |mime: &str| mime.split('/').nth(1).is_some_and(|s| s.eq_ignore_ascii_case(subtype));
        for media in router.codecs.iter().filter(|codec| codec.kind == Kind::Video && is_it(&codec.mime_type)) {
            let payload_type = media.preferred_payload_type.map(u64::from);
            codecs.push(media.clone());
            codecs.extend(router.codecs.iter().find(|codec| codec.is_rtx() && codec.apt() == payload_type).cloned());
        }
    }
    RtpCapabilities { codecs, header_extensions: router.header_extensions.clone() }
}
