//! Codecs of a section: `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` put together.

use std::collections::HashSet;

use rtc::sdp::description::media::MediaDescription;
use serde_json::{Map, Value};

use super::{Error, grammar::values, malformed};
use crate::ortc::{
    Codec as _, Kind, RtcpFeedback, RtpCapabilities, RtpCodecCapability, RtpCodecParameters, router_codec, router_rtx,
};

/// Most formats of a section. Chromium offers about 50 for video.
const MAX_FORMATS: usize = 96;
/// Most `a=rtcp-fb` lines that count for one codec.
const MAX_FEEDBACK: usize = 16;
/// Most parameters of a codec.
const MAX_PARAMETERS: usize = 32;

/// A codec, and its parameters as they were written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codec {
    pub parameters: RtpCodecParameters,
    pub fmtp: Option<String>,
}

/// Codecs in the order of the `m=` line. Formats without `a=rtpmap` are static ones that no browser prefers.
pub(super) fn codecs(media: &MediaDescription) -> Result<Vec<Codec>, Error> {
    let name = &media.media_name;
    if name.formats.len() > MAX_FORMATS {
        return malformed(format!("an m={} section has more than {MAX_FORMATS} formats", name.media));
    }
    let mut codecs = Vec::new();
    let mut payload_types = HashSet::new();
    for format in &name.formats {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|pt| *pt < 128 && payload_types.insert(*pt)) else {
            return malformed(format!("m={}: format {format} is no payload type, or there twice", name.media));
        };
        let of_this = |text: &'_ str| {
            let (number, rest) = text.split_once(' ')?;
            (number == format).then(|| rest.trim().to_owned())
        };
        let Some(map) = values(&media.attributes, "rtpmap").find_map(of_this) else { continue };
        let mut parts = map.split('/');
        let (Some(encoding), Some(Ok(clock_rate))) = (parts.next(), parts.next().map(str::parse)) else {
            return malformed(format!("a=rtpmap:{payload_type} {map} is not a name and a clock rate"));
        };
        let channels = match (name.media.as_str(), parts.next().map(str::parse)) {
            ("audio", Some(Ok(channels))) => Some(channels).filter(|channels| *channels > 1),
            _ => None,
        };
        let fmtp = values(&media.attributes, "fmtp").find_map(of_this);
        let feedback = values(&media.attributes, "rtcp-fb").filter_map(|text| text.split_once(' ')).filter_map(
            |(number, feedback)| {
                let (r#type, parameter) = feedback.split_once(' ').unwrap_or((feedback, ""));
                (number == format || number == "*")
                    .then(|| RtcpFeedback { r#type: r#type.to_owned(), parameter: parameter.trim().to_owned() })
            },
        );
        codecs.push(Codec {
            parameters: RtpCodecParameters {
                mime_type: format!("{}/{encoding}", name.media),
                payload_type,
                clock_rate,
                channels,
                parameters: fmtp.as_deref().map(parameters).unwrap_or_default(),
                rtcp_feedback: feedback.take(MAX_FEEDBACK).collect(),
            },
            fmtp,
        });
    }
    Ok(codecs)
}

/// `key=value;…`. Numbers become numbers, as in mediasoup, but for H264's profile, which only may look like one.
fn parameters(fmtp: &str) -> Map<String, Value> {
    let pairs = fmtp.split(';').filter_map(|pair| pair.trim().split_once('=')).take(MAX_PARAMETERS);
    pairs
        .map(|(key, value)| {
            let number = value.parse::<u64>().ok().filter(|_| key != "profile-level-id");
            (key.to_owned(), number.map_or_else(|| Value::from(value), Value::from))
        })
        .collect()
}

/// A codec that both ends have, and what it is to the router.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    pub codec: Codec,
    /// Payload type in the router; of an RTX codec, the router's RTX for what it repeats.
    pub router_payload_type: u8,
    pub is_rtx: bool,
    /// Of redundant audio, the payload type that it carries.
    pub carries: Option<u8>,
}

/// What redundant audio carries (RFC 2198 §5): one payload type, said once for each block.
fn carried(fmtp: &str) -> Option<u8> {
    let mut list = fmtp.split('/').map(|number| number.trim().parse().ok());
    let first = list.next()??;
    list.all(|other| other == Some(first)).then_some(first)
}

/// What a section has in common with the router, RTX after what it repeats, in the client's order. Of RTCP
/// feedback only what the router does is left.
pub(super) fn shared(kind: Kind, offered: &[Codec], router: &RtpCapabilities) -> Vec<Shared> {
    let mut all: Vec<Shared> = Vec::new();
    for codec in offered.iter().filter(|codec| !codec.parameters.is_rtx()) {
        let Some((codec, capability)) = understand(codec, router).filter(|(_, found)| found.kind == kind) else {
            continue;
        };
        let Some(router_payload_type) = capability.preferred_payload_type else { continue };
        let apt = Value::from(codec.parameters.payload_type);
        let rtx =
            offered.iter().find(|rtx| rtx.parameters.is_rtx() && rtx.parameters.parameters.get("apt") == Some(&apt));
        let mut codec = codec;
        codec.parameters.rtcp_feedback.retain(|feedback| capability.rtcp_feedback.contains(feedback));
        let carries = codec.parameters.is_red().then(|| codec.fmtp.as_deref().and_then(carried)).flatten();
        if codec.parameters.is_red() && carries.is_none() {
            continue;
        }
        all.push(Shared { codec, router_payload_type, is_rtx: false, carries });
        if let (Some(rtx), Some(router)) = (rtx, router_rtx(router, capability)) {
            let mut codec = rtx.clone();
            codec.parameters.rtcp_feedback.clear();
            let Some(router_payload_type) = router.preferred_payload_type else { continue };
            all.push(Shared { codec, router_payload_type, is_rtx: true, carries: None });
        }
    }
    // The first of a codec's variants is the one that is used: redundancy of another one, or of nothing, is none.
    let used: HashSet<u8> = first_of_each(&all).collect();
    all.retain(|shared| shared.carries.is_none_or(|carried| used.contains(&carried)));
    all
}

/// Payload types of the media codecs, of those that are one to the router only the first.
fn first_of_each(all: &[Shared]) -> impl Iterator<Item = u8> {
    let mut seen = HashSet::new();
    let media = all.iter().filter(|shared| !shared.is_rtx && shared.carries.is_none());
    media
        .filter(move |shared| seen.insert(shared.router_payload_type))
        .map(|shared| shared.codec.parameters.payload_type)
}

/// The router's codec for an offered one. FFmpeg and others state plain baseline for H264 (`4200xx`) where
/// they send constrained baseline: what sets the two apart (FMO, ASO, redundant slices) no encoder in use
/// has. So it counts as that where the router does not list it.
fn understand<'a>(codec: &Codec, router: &'a RtpCapabilities) -> Option<(Codec, &'a RtpCodecCapability)> {
    if let Some(capability) = router_codec(router, &codec.parameters) {
        return Some((codec.clone(), capability));
    }
    let level = codec.parameters.parameters.get("profile-level-id")?.as_str()?.strip_prefix("4200")?;
    let mut constrained = codec.clone();
    constrained.parameters.parameters.insert("profile-level-id".into(), format!("42e0{level}").into());
    let capability = router_codec(router, &constrained.parameters)?;
    Some((constrained, capability))
}
