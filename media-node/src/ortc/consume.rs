//! A subscriber's parameters: the part of a producer that its capabilities can take.

use super::{
    Error, RtpCapabilities, RtpEncodingParameters, RtpParameters, Rtx,
    parameters::{Codec, extension_kind, extension_uri},
};
use crate::core::command::{ConsumerSpec, ExtensionKind, HeaderExtension, ScalabilityMode};

/// Numbers and names of one consumer, which only the caller can keep apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerIds {
    /// `mid`, unique in its transport.
    pub mid: String,
    /// SSRC of the media, unique in its transport; the RTX stream takes the next number.
    pub ssrc: u32,
    /// CNAME for publishers that stated none.
    pub cname: String,
}

/// Whether an endpoint with these capabilities can take anything of this producer.
pub fn can_consume(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> bool {
    consumable
        .codecs
        .iter()
        .find(|codec| capabilities.codecs.iter().any(|capability| capability.matches(*codec)))
        .is_some_and(|codec| !codec.is_rtx() && !codec.is_red())
}

/// What a subscriber with these capabilities receives, in JSON and for the core.
///
/// Redundant audio comes second, behind what it carries: whoever looks at the first codec alone knows that one.
///
/// Video is retransmitted where both ends can; audio is not, as in mediasoup. Of the two ways to
/// estimate bandwidth transport-cc wins over REMB.
///
/// # Errors
/// [`Error::Unsupported`] if the two have no media codec in common.
pub fn consumer_rtp_parameters(
    consumable: &RtpParameters,
    capabilities: &RtpCapabilities,
    ids: ConsumerIds,
    paused: bool,
) -> Result<(RtpParameters, ConsumerSpec), Error> {
    let is_video = consumable.codecs.first().is_some_and(|codec| codec.mime_type.starts_with("video/"));
    let mut codecs: Vec<_> = consumable
        .codecs
        .iter()
        .filter(|codec| is_video || !codec.is_rtx())
        .filter_map(|codec| {
            let capability = capabilities
                .codecs
                .iter()
                .find(|capability| capability.matches(codec) && (!codec.is_rtx() || capability.apt() == codec.apt()))?;
            let mut codec = codec.clone();
            codec.rtcp_feedback = capability.rtcp_feedback.clone();
            codec.rtcp_feedback.retain(|fb| is_video || fb.r#type != "nack" || !fb.parameter.is_empty());
            Some(codec)
        })
        .collect();
    let media: Vec<u8> = codecs.iter().filter(|codec| !codec.is_rtx()).map(|codec| codec.payload_type).collect();
    codecs.retain(|codec| {
        !codec.is_rtx() || media.iter().any(|payload_type| codec.apt() == Some((*payload_type).into()))
    });
    let Some(first) = codecs.iter().find(|codec| !codec.is_rtx() && !codec.is_red()).cloned() else {
        return Err(Error::unsupported("rtpCapabilities.codecs", "has no codec in common with the producer"));
    };

    let header_extensions: Vec<_> = consumable
        .header_extensions
        .iter()
        .filter(|extension| {
            capabilities
                .header_extensions
                .iter()
                .any(|capability| capability.preferred_id == extension.id && capability.uri == extension.uri)
        })
        .cloned()
        .collect();
    let has = |kind| header_extensions.iter().any(|extension| extension.uri == extension_uri(kind));
    let (has_transport_cc, has_send_time) = (has(ExtensionKind::TransportCc), has(ExtensionKind::AbsSendTime));
    for codec in &mut codecs {
        codec.rtcp_feedback.retain(|fb| match fb.r#type.as_str() {
            "transport-cc" => has_transport_cc,
            "goog-remb" => !has_transport_cc && has_send_time,
            _ => true,
        });
    }

    let rtx = codecs.iter().find(|codec| codec.is_rtx() && codec.apt() == Some(first.payload_type.into()));
    let rtx = rtx.map(|codec| (ids.ssrc.wrapping_add(1), codec.payload_type));
    let cname = consumable.rtcp.cname.clone().unwrap_or(ids.cname);
    let spec = ConsumerSpec {
        mid: ids.mid.clone(),
        payload_types: media,
        renumbered: Vec::new(),
        clock_rate: first.clock_rate,
        ssrc: ids.ssrc,
        rtx,
        nack: codecs.iter().any(|codec| codec.has_feedback("nack", "")),
        header_extensions: header_extensions
            .iter()
            .filter_map(|extension| Some(HeaderExtension { kind: extension_kind(&extension.uri)?, id: extension.id }))
            .collect(),
        cname: cname.clone(),
        paused,
    };
    let encoding = RtpEncodingParameters {
        ssrc: Some(ids.ssrc),
        rid: None,
        rtx: rtx.map(|(ssrc, _)| Rtx { ssrc }),
        scalability_mode: scalability_mode(consumable),
        max_bitrate: consumable.encodings.iter().filter_map(|encoding| encoding.max_bitrate).max(),
    };
    let mut rtcp = consumable.rtcp.clone();
    rtcp.cname = Some(cname);
    Ok((RtpParameters { mid: Some(ids.mid), codecs, header_extensions, encodings: vec![encoding], rtcp }, spec))
}

/// What the one stream of a consumer is: the encodings of simulcast are the spatial layers of it.
fn scalability_mode(consumable: &RtpParameters) -> Option<String> {
    let first = consumable.encodings.iter().find_map(|encoding| encoding.scalability_mode.as_deref());
    if consumable.encodings.len() < 2 {
        return first.map(str::to_owned);
    }
    let mode: ScalabilityMode = first.and_then(|mode| mode.parse().ok()).unwrap_or_default();
    Some(format!("L{}T{}", consumable.encodings.len(), mode.temporal))
}
