//! An offer to play: what each of its sections can take, whoever will be sent on it.

use serde_json::{Map, Value};

use super::{
    Error, Offer, Section,
    answer::Accepted,
    codec::shared,
    publish::{common_extensions, feedback, no_codec},
    unacceptable,
};
use crate::{
    core::command::{ConsumerSpec, HeaderExtension},
    ortc::{
        self, ConsumerIds, Direction, Kind, RtpCapabilities, RtpCodecCapability, RtpHeaderExtension, RtpParameters,
        consumer_rtp_parameters,
    },
};

/// A section that is to receive.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Audio or video.
    pub kind: Kind,
    /// `mid` of the section.
    pub mid: String,
    /// What it takes, in the router's numbers.
    capabilities: RtpCapabilities,
    /// Payload types and extension ids: the router's, and the client's.
    payload_types: Vec<(u8, u8)>,
    extensions: Vec<(u8, u8)>,
}

/// An offer to play that was found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Playback {
    /// The offer.
    pub offer: Offer,
    /// Its active sections, in order.
    pub receivers: Vec<Receiver>,
    pub(super) accepted: Vec<Accepted>,
}

impl Playback {
    /// Checks an offer against what the router sends. All of it is accepted or none.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(offer: Offer, router: &RtpCapabilities) -> Result<Self, Error> {
        let (mut receivers, mut accepted) = (Vec::new(), Vec::new());
        for section in offer.active() {
            if !matches!(section.direction, Direction::Recvonly | Direction::Sendrecv) {
                let text = format!("media section {}: to play, offer a=recvonly; to publish, use WHIP", section.mid);
                return unacceptable(text);
            }
            let (receiver, answer) = receiver(section, router)?;
            receivers.push(receiver);
            accepted.push(answer);
        }
        Ok(Self { offer, receivers, accepted })
    }
}

fn receiver(section: &Section, router: &RtpCapabilities) -> Result<(Receiver, Accepted), Error> {
    let codecs = shared(section.kind, &section.codecs, router);
    if codecs.is_empty() {
        return unacceptable(no_codec(section, router));
    }
    let sends = |direction| matches!(direction, Direction::Sendrecv | Direction::Sendonly);
    let common = common_extensions(section, router, sends);
    let extensions: Vec<_> = common.iter().map(|(extension, _)| extension.clone()).collect();
    let mut codecs = feedback(codecs, &extensions);
    if section.kind == Kind::Audio {
        // Audio is not retransmitted to subscribers, as in mediasoup.
        codecs.iter_mut().for_each(|codec| codec.codec.parameters.rtcp_feedback.retain(|fb| fb.r#type != "nack"));
    }
    let mut payload_types: Vec<(u8, u8)> = Vec::new();
    let mut capabilities = RtpCapabilities::default();
    let mut apt: Option<u8> = None;
    for shared in &codecs {
        let (ours, theirs) = (shared.router_payload_type, shared.codec.parameters.payload_type);
        // The same codec in two variants that the router does not tell apart: the client's first choice.
        if payload_types.iter().any(|(taken, _)| *taken == ours) {
            apt = None;
            continue;
        }
        let parameters = match (shared.is_rtx, apt) {
            (true, Some(apt)) => Map::from_iter([("apt".to_owned(), Value::from(apt))]),
            (true, None) => continue,
            (false, _) => shared.codec.parameters.parameters.clone(),
        };
        if !shared.is_rtx {
            apt = Some(ours);
        }
        payload_types.push((ours, theirs));
        capabilities.codecs.push(RtpCodecCapability {
            kind: section.kind,
            mime_type: shared.codec.parameters.mime_type.clone(),
            preferred_payload_type: Some(ours),
            clock_rate: shared.codec.parameters.clock_rate,
            channels: shared.codec.parameters.channels,
            parameters,
            rtcp_feedback: shared.codec.parameters.rtcp_feedback.clone(),
        });
    }
    codecs.retain(|shared| payload_types.contains(&(shared.router_payload_type, shared.codec.parameters.payload_type)));
    capabilities.header_extensions = common
        .iter()
        .map(|(extension, id)| RtpHeaderExtension {
            kind: section.kind,
            uri: extension.uri.clone(),
            preferred_id: *id,
            preferred_encrypt: false,
            direction: Direction::Sendrecv,
        })
        .collect();
    let receiver = Receiver {
        kind: section.kind,
        mid: section.mid.clone(),
        capabilities,
        payload_types,
        extensions: common.iter().map(|(extension, id)| (*id, extension.id)).collect(),
    };
    Ok((receiver, Accepted { codecs, extensions, rids: Vec::new(), is_sent: true }))
}

impl Receiver {
    /// How this section receives a producer, under these SSRCs.
    ///
    /// # Errors
    /// [`ortc::Error::Unsupported`] if the two have no codec in common.
    pub fn consume(&self, consumable: &RtpParameters, ssrc: u32, cname: &str) -> Result<ConsumerSpec, ortc::Error> {
        let ids = ConsumerIds { mid: self.mid.clone(), ssrc, cname: cname.to_owned() };
        let (_, mut spec) = consumer_rtp_parameters(consumable, &self.capabilities, ids, false)?;
        let theirs = |list: &[(u8, u8)], ours: u8| list.iter().find(|(id, _)| *id == ours).map_or(ours, |(_, id)| *id);
        spec.renumbered = spec
            .payload_types
            .iter()
            .map(|ours| (*ours, theirs(&self.payload_types, *ours)))
            .filter(|(ours, theirs)| ours != theirs)
            .collect();
        spec.rtx = spec.rtx.map(|(ssrc, ours)| (ssrc, theirs(&self.payload_types, ours)));
        spec.header_extensions = spec
            .header_extensions
            .iter()
            .map(|extension| HeaderExtension { kind: extension.kind, id: theirs(&self.extensions, extension.id) })
            .collect();
        cname.clone_into(&mut spec.cname);
        Ok(spec)
    }

    /// Whether a stream on this section may be repeated by RTX.
    pub fn repeats(&self) -> bool {
        self.capabilities.codecs.iter().any(|codec| codec.mime_type.to_ascii_lowercase().ends_with("/rtx"))
    }
}
