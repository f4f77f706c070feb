//! mediasoup's RTP types, as they stand in JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::profile;
use crate::core::command::{Codec as PayloadFormat, ExtensionKind, MediaKind};

/// Kind of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Video => Self::Video,
        }
    }
}

/// In which directions a header extension may be used, seen from whoever states the capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Both.
    #[default]
    Sendrecv,
    /// Sent only.
    Sendonly,
    /// Received only.
    Recvonly,
    /// Neither.
    Inactive,
}

/// What an endpoint or the router can receive or send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilities {
    /// Media and RTX codecs.
    #[serde(default)]
    pub codecs: Vec<RtpCodecCapability>,
    /// Header extensions.
    #[serde(default)]
    pub header_extensions: Vec<RtpHeaderExtension>,
}

/// A codec that can be negotiated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecCapability {
    /// Kind of media.
    pub kind: Kind,
    /// Such as `audio/opus`; compared without case.
    pub mime_type: String,
    /// The payload type that whoever states this would like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_payload_type: Option<u8>,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Audio channels; absent for video and for mono.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters (`a=fmtp`).
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// RTCP feedback (`a=rtcp-fb`).
    #[serde(default)]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// A header extension that can be negotiated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtension {
    /// Kind of media.
    pub kind: Kind,
    /// What it is.
    pub uri: String,
    /// Id that whoever states this would like.
    pub preferred_id: u8,
    /// RFC 6904 encryption; never used here.
    #[serde(default)]
    pub preferred_encrypt: bool,
    /// Direction.
    #[serde(default)]
    pub direction: Direction,
}

/// What is sent or received: the result of a negotiation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpParameters {
    /// `mid` of the media section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// Media and RTX codecs.
    pub codecs: Vec<RtpCodecParameters>,
    /// Header extensions.
    #[serde(default)]
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// Streams.
    #[serde(default)]
    pub encodings: Vec<RtpEncodingParameters>,
    /// RTCP.
    #[serde(default)]
    pub rtcp: RtcpParameters,
}

/// A codec in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodecParameters {
    /// Such as `audio/opus`; compared without case.
    pub mime_type: String,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Audio channels; absent for video and for mono.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters (`a=fmtp`).
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// RTCP feedback (`a=rtcp-fb`).
    #[serde(default)]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// One kind of RTCP feedback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcpFeedback {
    /// Such as `nack`.
    pub r#type: String,
    /// Such as `pli`; empty where there is none.
    #[serde(default)]
    pub parameter: String,
}

/// A header extension in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtensionParameters {
    /// What it is.
    pub uri: String,
    /// Its id.
    pub id: u8,
    /// RFC 6904 encryption; never used here.
    #[serde(default)]
    pub encrypt: bool,
    /// Parameters; none of the extensions in use has any.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpEncodingParameters {
    /// SSRC, where it is known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// RTP stream id (RFC 8852).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// The retransmission stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx: Option<Rtx>,
    /// Such as `L1T3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalability_mode: Option<String>,
    /// Upper bound in bit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
}

/// The retransmission stream of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: u32,
}

/// RTCP of a media section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcpParameters {
    /// Canonical name that ties the tracks of one sender together (lip sync).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// RFC 5506; always on.
    #[serde(default = "yes")]
    pub reduced_size: bool,
}

impl Default for RtcpParameters {
    fn default() -> Self {
        Self { cname: None, reduced_size: true }
    }
}

const fn yes() -> bool {
    true
}

/// The parts of a codec that decide whether two ends mean the same one.
pub(crate) trait Codec {
    fn mime_type(&self) -> &str;
    fn clock_rate(&self) -> u32;
    fn channels(&self) -> u8;
    fn parameters(&self) -> &Map<String, Value>;

    /// RTX is not a codec of its own, it repeats another (RFC 4588).
    fn is_rtx(&self) -> bool {
        self.mime_type().to_ascii_lowercase().ends_with("/rtx")
    }

    /// RED is none either, it carries another with copies of what was before (RFC 2198).
    fn is_red(&self) -> bool {
        self.mime_type().eq_ignore_ascii_case("audio/red")
    }

    /// Payload types that RED says it carries. `a=fmtp:63 111/111` has no name for them: mediasoup-client makes one of the
    /// whole, with nothing for its value, and browsers an empty one.
    fn carried(&self) -> Vec<Option<u8>> {
        let unnamed = |(name, value): (&String, &Value)| match (name.as_str(), value.as_str()) {
            ("", Some(list)) => Some(list.to_owned()),
            (list, Some("")) => Some(list.to_owned()),
            _ => None,
        };
        let lists: Vec<String> = self.parameters().iter().filter_map(unnamed).collect();
        lists.iter().flat_map(|list| list.split('/')).map(|number| number.trim().parse().ok()).collect()
    }

    /// Payload type that an RTX codec repeats.
    fn apt(&self) -> Option<u64> {
        self.parameters().get("apt").and_then(Value::as_u64)
    }

    /// Whether both are the same codec, in a profile that both know.
    fn matches(&self, other: &impl Codec) -> bool {
        self.mime_type().eq_ignore_ascii_case(other.mime_type())
            && self.clock_rate() == other.clock_rate()
            && self.channels() == other.channels()
            && profile::same(self.mime_type(), self.parameters(), other.parameters())
    }
}

impl Codec for RtpCodecCapability {
    fn mime_type(&self) -> &str {
        &self.mime_type
    }
    fn clock_rate(&self) -> u32 {
        self.clock_rate
    }
    fn channels(&self) -> u8 {
        self.channels.unwrap_or(1)
    }
    fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }
}

impl Codec for RtpCodecParameters {
    fn mime_type(&self) -> &str {
        &self.mime_type
    }
    fn clock_rate(&self) -> u32 {
        self.clock_rate
    }
    fn channels(&self) -> u8 {
        self.channels.unwrap_or(1)
    }
    fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }
}

impl RtpCodecParameters {
    /// What the core must know of its payload.
    pub(super) fn payload_format(&self) -> PayloadFormat {
        match self.mime_type.to_ascii_lowercase().as_str() {
            "audio/opus" => PayloadFormat::Opus,
            "audio/red" => PayloadFormat::Red,
            "video/vp8" => PayloadFormat::Vp8,
            "video/vp9" => PayloadFormat::Vp9,
            "video/h264" => PayloadFormat::H264,
            "video/av1" => PayloadFormat::Av1,
            _ => PayloadFormat::Other,
        }
    }

    pub(super) fn has_feedback(&self, r#type: &str, parameter: &str) -> bool {
        self.rtcp_feedback.iter().any(|fb| fb.r#type == r#type && fb.parameter == parameter)
    }
}

/// URIs of the extensions that the core knows. Any other one is not negotiated.
pub(super) const EXTENSIONS: [(ExtensionKind, &str); 10] = [
    (ExtensionKind::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (ExtensionKind::Rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    (ExtensionKind::RepairedRid, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
    (ExtensionKind::AbsSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (ExtensionKind::TransportCc, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    (ExtensionKind::AudioLevel, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (ExtensionKind::VideoOrientation, "urn:3gpp:video-orientation"),
    (ExtensionKind::TransmissionOffset, "urn:ietf:params:rtp-hdrext:toffset"),
    (ExtensionKind::PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (
        ExtensionKind::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
];

/// The extension with this URI, if the core knows it.
pub(super) fn extension_kind(uri: &str) -> Option<ExtensionKind> {
    EXTENSIONS.iter().find(|(_, known)| *known == uri).map(|(kind, _)| *kind)
}

/// URI of an extension.
pub(super) fn extension_uri(kind: ExtensionKind) -> &'static str {
    EXTENSIONS.iter().find(|(known, _)| *known == kind).map_or("", |(_, uri)| uri)
}
