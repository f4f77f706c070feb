//! An offer to publish: the tracks in it, as `produce` takes them.

use super::{
    Error, Offer, Section,
    answer::Accepted,
    codec::{Shared, shared},
    unacceptable,
};
use crate::ortc::{
    Direction, Kind, RtcpParameters, RtpCapabilities, RtpCodecCapability, RtpHeaderExtensionParameters, RtpParameters,
    producer_spec,
};

/// A track of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Audio or video.
    pub kind: Kind,
    /// What the client will send.
    pub parameters: RtpParameters,
}

/// An offer to publish that was found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The offer.
    pub offer: Offer,
    /// Its tracks, in the order of its active sections.
    pub tracks: Vec<Track>,
    pub(super) accepted: Vec<Accepted>,
}

impl Publication {
    /// Checks an offer against what the router takes. All of it is accepted or none (RFC 9725 §4.4.3).
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(offer: Offer, router: &RtpCapabilities) -> Result<Self, Error> {
        let (mut tracks, mut accepted) = (Vec::new(), Vec::new());
        for section in offer.active() {
            if !matches!(section.direction, Direction::Sendonly | Direction::Sendrecv) {
                let text = format!("media section {}: to publish, offer a=sendonly; to play, use WHEP", section.mid);
                return unacceptable(text);
            }
            let (track, answer) = track(section, router)?;
            tracks.push(track);
            accepted.push(answer);
        }
        Ok(Self { offer, tracks, accepted })
    }
}

fn track(section: &Section, router: &RtpCapabilities) -> Result<(Track, Accepted), Error> {
    let mut codecs = shared(section.kind, &section.codecs, router);
    if codecs.is_empty() {
        return unacceptable(no_codec(section, router));
    }
    // The client's first choice alone, as mediasoup-client does: a publisher that may change its codec at will
    // would leave those behind who cannot decode the next one. With redundant audio comes what it carries.
    match codecs[0].carries {
        Some(carried) => {
            let redundant = codecs.remove(0);
            codecs.retain(|codec| codec.carries.is_none() && codec.codec.parameters.payload_type == carried);
            codecs.insert(0, redundant);
        }
        None => {
            let end = codecs.iter().skip(1).position(|codec| !codec.is_rtx).map_or(codecs.len(), |next| next + 1);
            codecs.truncate(end);
        }
    }
    let receives = |direction| matches!(direction, Direction::Sendrecv | Direction::Recvonly);
    let extensions: Vec<_> =
        common_extensions(section, router, receives).into_iter().map(|(extension, _)| extension).collect();
    let codecs = feedback(codecs, &extensions);
    let mut parameters = RtpParameters {
        mid: Some(section.mid.clone()),
        codecs: codecs.iter().map(|shared| shared.codec.parameters.clone()).collect(),
        header_extensions: extensions,
        encodings: section.encodings.clone(),
        rtcp: RtcpParameters { cname: section.cname.clone(), reduced_size: true },
    };
    if codecs.iter().all(|codec| !codec.is_rtx) {
        parameters.encodings.iter_mut().for_each(|encoding| encoding.rtx = None);
    }
    // What is refused there is said in the words of JSON, but with the reason.
    producer_spec(section.kind, &parameters, router, false)?;
    let rids = section.encodings.iter().filter_map(|encoding| encoding.rid.clone()).collect();
    let accepted = Accepted { codecs, extensions: parameters.header_extensions.clone(), rids, is_sent: false };
    Ok((Track { kind: section.kind, parameters }, accepted))
}

/// Header extensions that both ends have, with the router's id. The two-byte form is not spoken here.
pub(super) fn common_extensions(
    section: &Section,
    router: &RtpCapabilities,
    allows: impl Fn(Direction) -> bool,
) -> Vec<(RtpHeaderExtensionParameters, u8)> {
    let known = |offered: &RtpHeaderExtensionParameters| {
        router.header_extensions.iter().find(|extension| {
            extension.kind == section.kind && extension.uri == offered.uri && allows(extension.direction)
        })
    };
    let mut common: Vec<(RtpHeaderExtensionParameters, u8)> = Vec::new();
    for offered in section.extensions.iter().filter(|extension| extension.id <= 14) {
        if common.iter().any(|(earlier, _)| earlier.uri == offered.uri) {
            continue;
        }
        common.extend(known(offered).map(|extension| (offered.clone(), extension.preferred_id)));
    }
    common
}

/// Feedback that needs a header extension goes where that is not there.
pub(super) fn feedback(mut codecs: Vec<Shared>, extensions: &[RtpHeaderExtensionParameters]) -> Vec<Shared> {
    let has = |part: &str| extensions.iter().any(|extension| extension.uri.contains(part));
    let (transport_cc, send_time) = (has("transport-wide-cc"), has("abs-send-time"));
    for shared in &mut codecs {
        shared.codec.parameters.rtcp_feedback.retain(|feedback| match feedback.r#type.as_str() {
            "transport-cc" => transport_cc,
            "goog-remb" => send_time,
            _ => true,
        });
    }
    codecs
}

pub(super) fn no_codec(section: &Section, router: &RtpCapabilities) -> String {
    let of_kind = |codec: &&RtpCodecCapability| codec.kind == section.kind && !codec.mime_type.ends_with("/rtx");
    let mut names: Vec<&str> = router.codecs.iter().filter(of_kind).map(|codec| codec.mime_type.as_str()).collect();
    names.dedup();
    format!("media section {} has no codec that the node takes: offer {}", section.mid, names.join(" or "))
}
