//! A publisher's parameters: are they sound, what must the core do, and what can others consume.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::{
    Direction, Error, Kind, RtcpParameters, RtpCapabilities, RtpCodecCapability, RtpCodecParameters,
    RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters,
    parameters::{Codec, extension_kind},
};
use crate::core::command::{
    Codec as PayloadFormat, ExtensionKind, HeaderExtension, Layers, ProducerCodec, ProducerEncoding, ProducerSpec,
    ScalabilityMode, UnknownMode,
};

/// Most encodings of one producer.
const MAX_ENCODINGS: usize = 3;

/// Longest `mid`, `rid` and `cname` that are taken: what fits a one-byte header extension (RFC 8285 §4.2)
/// and, for the name, an SDES item (RFC 3550 §6.5).
const MAX_ID_LENGTH: usize = 16;
const MAX_CNAME_LENGTH: usize = 255;

/// What the core needs to receive the track of these `rtpParameters`.
///
/// # Errors
/// [`Error::Invalid`] where the parameters contradict themselves, [`Error::Unsupported`] for codecs other
/// than the router's, more than three encodings, and scalability modes that are not followed.
pub fn producer_spec(
    kind: Kind,
    parameters: &RtpParameters,
    router: &RtpCapabilities,
    paused: bool,
) -> Result<ProducerSpec, Error> {
    check_text("rtpParameters.mid", parameters.mid.as_deref(), MAX_ID_LENGTH)?;
    check_text("rtpParameters.rtcp.cname", parameters.rtcp.cname.as_deref(), MAX_CNAME_LENGTH)?;
    let codecs = codecs(kind, parameters, router)?;
    let header_extensions = header_extensions(&parameters.header_extensions)?;
    let encodings = encodings(parameters, &codecs, &header_extensions)?;
    Ok(ProducerSpec {
        kind: kind.into(),
        mid: parameters.mid.clone(),
        codecs,
        encodings,
        header_extensions,
        cname: cname(&parameters.rtcp),
        paused,
    })
}

/// What subscribers may choose from: the publisher's codecs and streams in the router's numbers.
///
/// The parameters must have passed [`producer_spec`]. SSRCs are left out: each subscriber gets its own.
pub fn consumable(kind: Kind, parameters: &RtpParameters, router: &RtpCapabilities) -> RtpParameters {
    let mut codecs = Vec::new();
    for codec in parameters.codecs.iter().filter(|codec| !codec.is_rtx()) {
        let Some(capability) = router_codec(router, codec) else { continue };
        codecs.push(RtpCodecParameters {
            mime_type: capability.mime_type.clone(),
            payload_type: capability.preferred_payload_type.unwrap_or_default(),
            clock_rate: capability.clock_rate,
            channels: capability.channels,
            // What RED carries is named by payload type.
            parameters: if codec.is_red() { &capability.parameters } else { &codec.parameters }.clone(),
            rtcp_feedback: capability.rtcp_feedback.clone(),
        });
        if let Some(rtx) = router_rtx(router, capability) {
            codecs.push(RtpCodecParameters {
                mime_type: rtx.mime_type.clone(),
                payload_type: rtx.preferred_payload_type.unwrap_or_default(),
                clock_rate: rtx.clock_rate,
                channels: None,
                parameters: rtx.parameters.clone(),
                rtcp_feedback: rtx.rtcp_feedback.clone(),
            });
        }
    }
    // Whoever looks at the first alone knows that one.
    codecs.sort_by_key(Codec::is_red);
    let header_extensions = router
        .header_extensions
        .iter()
        .filter(|extension| {
            extension.kind == kind && matches!(extension.direction, Direction::Sendrecv | Direction::Sendonly)
        })
        .map(|extension| RtpHeaderExtensionParameters {
            uri: extension.uri.clone(),
            id: extension.preferred_id,
            encrypt: extension.preferred_encrypt,
            parameters: Default::default(),
        })
        .collect();
    let encodings = parameters
        .encodings
        .iter()
        .map(|encoding| RtpEncodingParameters { ssrc: None, rid: None, rtx: None, ..encoding.clone() })
        .collect();
    let rtcp = RtcpParameters { cname: cname(&parameters.rtcp), reduced_size: true };
    RtpParameters { mid: None, codecs, header_extensions, encodings, rtcp }
}

fn cname(rtcp: &RtcpParameters) -> Option<String> {
    rtcp.cname.clone().filter(|cname| !cname.is_empty())
}

/// The router's codec for a publisher's.
pub(crate) fn router_codec<'a>(
    router: &'a RtpCapabilities,
    codec: &RtpCodecParameters,
) -> Option<&'a RtpCodecCapability> {
    router.codecs.iter().find(|capability| !capability.is_rtx() && capability.matches(codec))
}

/// The router's RTX for one of its media codecs.
pub(crate) fn router_rtx<'a>(
    router: &'a RtpCapabilities,
    media: &RtpCodecCapability,
) -> Option<&'a RtpCodecCapability> {
    let payload_type = media.preferred_payload_type.map(u64::from);
    router.codecs.iter().find(|capability| capability.is_rtx() && capability.apt() == payload_type)
}

fn codecs(kind: Kind, parameters: &RtpParameters, router: &RtpCapabilities) -> Result<Vec<ProducerCodec>, Error> {
    let mut payload_types = HashSet::new();
    for (index, codec) in parameters.codecs.iter().enumerate() {
        let field = |name: &str| format!("rtpParameters.codecs[{index}].{name}");
        let type_of = codec.mime_type.split('/').next().unwrap_or_default();
        let expected = match kind {
            Kind::Audio => "audio",
            Kind::Video => "video",
        };
        if !type_of.eq_ignore_ascii_case(expected) {
            return Err(Error::invalid(field("mimeType"), format!("is not {expected}, which `kind` says")));
        }
        if codec.payload_type > 127 {
            return Err(Error::invalid(field("payloadType"), "is above 127"));
        }
        if !payload_types.insert(codec.payload_type) {
            return Err(Error::invalid(field("payloadType"), "is taken by an earlier codec"));
        }
        if let Some((name, _)) =
            codec.parameters.iter().find(|(_, v)| !matches!(v, Value::String(_) | Value::Number(_)))
        {
            return Err(Error::invalid(field(&format!("parameters.{name}")), "is neither text nor a number"));
        }
        if codec.is_red() {
            let media: Vec<_> =
                parameters.codecs.iter().filter(|c| !c.is_red() && router_codec(router, c).is_some()).collect();
            if media.is_empty() {
                return Err(Error::invalid(field("mimeType"), "needs the codec that it carries beside it"));
            }
            if codec.carried().iter().any(|carried| media.iter().all(|c| Some(c.payload_type) != *carried)) {
                return Err(Error::invalid(field("parameters"), "name other payload types than the codecs have"));
            }
        }
        if codec.is_rtx() {
            let media = parameters.codecs.iter().find(|media| Some(u64::from(media.payload_type)) == codec.apt());
            if media.is_none_or(Codec::is_rtx) {
                return Err(Error::invalid(field("parameters.apt"), "names no media codec of these parameters"));
            }
        } else if router_codec(router, codec).is_none() {
            let offered: Vec<&str> =
                router.codecs.iter().filter(|c| !c.is_rtx()).map(|c| c.mime_type.as_str()).collect();
            let reason = format!(
                "{} at {} Hz is not supported, {} are",
                codec.mime_type,
                codec.clock_rate,
                offered.join(" and ")
            );
            return Err(Error::unsupported(field("mimeType"), reason));
        }
    }
    let specs: Vec<ProducerCodec> = parameters
        .codecs
        .iter()
        .filter(|codec| !codec.is_rtx())
        .filter_map(|codec| {
            Some(ProducerCodec {
                payload_type: codec.payload_type,
                router_payload_type: router_codec(router, codec)?.preferred_payload_type?,
                codec: codec.payload_format(),
                clock_rate: codec.clock_rate,
                rtx_payload_type: parameters
                    .codecs
                    .iter()
                    .find(|rtx| rtx.is_rtx() && rtx.apt() == Some(codec.payload_type.into()))
                    .map(|rtx| rtx.payload_type),
                nack: codec.has_feedback("nack", ""),
                pli: codec.has_feedback("nack", "pli"),
                remb: codec.has_feedback("goog-remb", ""),
            })
        })
        .collect();
    if specs.is_empty() {
        return Err(Error::invalid("rtpParameters.codecs", "holds no media codec"));
    }
    Ok(specs)
}

fn header_extensions(given: &[RtpHeaderExtensionParameters]) -> Result<Vec<HeaderExtension>, Error> {
    let mut ids = HashSet::new();
    let mut known: Vec<HeaderExtension> = Vec::new();
    for (index, extension) in given.iter().enumerate() {
        let field = |name: &str| format!("rtpParameters.headerExtensions[{index}].{name}");
        if extension.encrypt {
            return Err(Error::unsupported(field("encrypt"), "encrypted header extensions are not supported"));
        }
        if extension.id == 0 || !ids.insert(extension.id) {
            return Err(Error::invalid(field("id"), "is 0 or taken by an earlier extension"));
        }
        let Some(kind) = extension_kind(&extension.uri) else { continue };
        if known.iter().any(|earlier| earlier.kind == kind) {
            return Err(Error::invalid(field("uri"), "is stated twice"));
        }
        known.push(HeaderExtension { kind, id: extension.id });
    }
    Ok(known)
}

fn encodings(
    parameters: &RtpParameters,
    codecs: &[ProducerCodec],
    extensions: &[HeaderExtension],
) -> Result<Vec<ProducerEncoding>, Error> {
    const FIELD: &str = "rtpParameters.encodings";
    let given = &parameters.encodings;
    match given.len() {
        0 => return Err(Error::invalid(FIELD, "is empty")),
        1..=MAX_ENCODINGS => {}
        _ => return Err(Error::unsupported(FIELD, format!("are more than {MAX_ENCODINGS}"))),
    }
    let has = |kind| extensions.iter().any(|extension| extension.kind == kind);
    let (mut ssrcs, mut rids) = (HashSet::new(), HashSet::new());
    let mut encodings = Vec::new();
    for (index, encoding) in given.iter().enumerate() {
        let field = |name: &str| format!("{FIELD}[{index}].{name}");
        check_text(&field("rid"), encoding.rid.as_deref(), MAX_ID_LENGTH)?;
        // Without a rid there is nothing to tell several encodings of one mid apart by.
        let found_by_mid = given.len() == 1 && parameters.mid.is_some() && has(ExtensionKind::Mid);
        let found_by_rid = encoding.rid.is_some() && has(ExtensionKind::Rid);
        if encoding.ssrc.is_none() && !found_by_mid && !found_by_rid {
            let reason = "is missing, and no mid or rid with its extension stands in for it";
            return Err(Error::invalid(field("ssrc"), reason));
        }
        if encoding.ssrc == Some(0) {
            return Err(Error::invalid(field("ssrc"), "is 0"));
        }
        if encoding.ssrc.is_some_and(|ssrc| !ssrcs.insert(ssrc)) {
            return Err(Error::invalid(field("ssrc"), "is that of an earlier encoding"));
        }
        if encoding.rid.as_deref().is_some_and(|rid| !rids.insert(rid)) {
            return Err(Error::invalid(field("rid"), "is that of an earlier encoding"));
        }
        if let Some(rtx) = encoding.rtx {
            if codecs.iter().all(|codec| codec.rtx_payload_type.is_none()) {
                return Err(Error::invalid(field("rtx"), "has no RTX codec"));
            }
            if rtx.ssrc == 0 || !ssrcs.insert(rtx.ssrc) {
                return Err(Error::invalid(field("rtx.ssrc"), "is 0 or taken"));
            }
        }
        let mode = scalability(encoding).map_err(|error| {
            let mode = encoding.scalability_mode.as_deref().unwrap_or_default();
            Error::unsupported(field("scalabilityMode"), format!("{mode:?} {error}"))
        })?;
        if mode.spatial > 1 && (given.len() > 1 || !codecs.iter().all(|c| is_svc(c.codec))) {
            let reason = "has several spatial layers, which only one encoding of VP9 or AV1 may have";
            return Err(Error::unsupported(field("scalabilityMode"), reason));
        }
        encodings.push(ProducerEncoding {
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx.map(|rtx| rtx.ssrc),
            rid: encoding.rid.clone(),
            scalability: mode,
        });
    }
    Ok(encodings)
}

fn scalability(encoding: &RtpEncodingParameters) -> Result<ScalabilityMode, UnknownMode> {
    encoding.scalability_mode.as_deref().map_or(Ok(ScalabilityMode::default()), str::parse)
}

/// Whether spatial layers can be told apart within one stream of the codec.
fn is_svc(codec: PayloadFormat) -> bool {
    matches!(codec, PayloadFormat::Vp9 | PayloadFormat::Av1)
}

/// What a producer or consumer is called by its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamType {
    /// One stream without layers.
    Simple,
    /// Several encodings, or the temporal layers of a codec that knows no others.
    Simulcast,
    /// One encoding with layers of VP9 or AV1.
    Svc,
}

impl StreamType {
    /// By mediasoup's rules, of parameters that have passed [`producer_spec`].
    pub fn of(parameters: &RtpParameters) -> Self {
        match parameters.encodings.as_slice() {
            [only] if scalability(only).is_ok_and(|mode| mode.highest() == Layers::LOWEST) => Self::Simple,
            [_] if parameters.codecs.first().is_some_and(|codec| is_svc(codec.payload_format())) => Self::Svc,
            _ => Self::Simulcast,
        }
    }
}

fn check_text(field: &str, text: Option<&str>, longest: usize) -> Result<(), Error> {
    match text {
        Some(text) if text.len() > longest || text.chars().any(char::is_control) => {
            Err(Error::invalid(field, format!("is longer than {longest} bytes or holds control characters")))
        }
        _ => Ok(()),
    }
}
