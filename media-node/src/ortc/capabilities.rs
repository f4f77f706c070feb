//! What the router offers: Opus and VP8 with RTX, in mediasoup's numbers.
//!
//! To add a codec: a line in [`CODECS`], its profile comparison in `Codec::matches`, and its key frames
//! in the core.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::parameters::{
    Direction, Kind, RtcpFeedback, RtpCapabilities, RtpCodecCapability, RtpHeaderExtension, extension_uri,
};
use crate::core::command::ExtensionKind;

/// First payload type that is given out; each codec takes one, and a video codec one more for RTX.
const FIRST_PAYLOAD_TYPE: u8 = 100;

/// RTCP feedback by type and parameter.
type Feedback = &'static [(&'static str, &'static str)];

/// Media codecs: kind, MIME type, clock, channels, feedback.
const CODECS: [(Kind, &str, u32, Option<u8>, Feedback); 2] = [
    (Kind::Audio, "audio/opus", 48_000, Some(2), &[("nack", ""), ("transport-cc", "")]),
    (
        Kind::Video,
        "video/VP8",
        90_000,
        None,
        &[("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")],
    ),
];

/// Extensions with their ids in the router. Audio takes no transport-cc towards subscribers, and stream
/// ids are only ever received, as in mediasoup.
const HEADER_EXTENSIONS: [(Kind, ExtensionKind, u8, Direction); 11] = [
    (Kind::Audio, ExtensionKind::Mid, 1, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::Mid, 1, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::Rid, 2, Direction::Recvonly),
    (Kind::Video, ExtensionKind::RepairedRid, 3, Direction::Recvonly),
    (Kind::Audio, ExtensionKind::AbsSendTime, 4, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::AbsSendTime, 4, Direction::Sendrecv),
    (Kind::Audio, ExtensionKind::TransportCc, 5, Direction::Recvonly),
    (Kind::Video, ExtensionKind::TransportCc, 5, Direction::Sendrecv),
    (Kind::Audio, ExtensionKind::AudioLevel, 10, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::VideoOrientation, 11, Direction::Sendrecv),
    (Kind::Video, ExtensionKind::TransmissionOffset, 12, Direction::Sendrecv),
];

/// Capabilities of every router.
pub fn router_capabilities() -> &'static RtpCapabilities {
    static CAPABILITIES: LazyLock<RtpCapabilities> = LazyLock::new(build);
    &CAPABILITIES
}

fn build() -> RtpCapabilities {
    let mut codecs = Vec::new();
    let mut next = FIRST_PAYLOAD_TYPE..;
    for (kind, mime_type, clock_rate, channels, feedback) in CODECS {
        let payload_type = next.next();
        codecs.push(RtpCodecCapability {
            kind,
            mime_type: mime_type.into(),
            preferred_payload_type: payload_type,
            clock_rate,
            channels,
            parameters: Map::new(),
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
