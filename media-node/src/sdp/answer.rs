//! Answers: the node's side of a transport, and for each section what both ends have.

use rtc::sdp::description::{
    common::{Address, Attribute, ConnectionInformation},
    media::{MediaDescription, MediaName, RangedPort},
    session::{Origin, SessionDescription, TimeDescription},
};

use super::{Offer, Playback, Publication, Section, codec::Shared};
use crate::ortc::{DtlsParameters, DtlsRoleName, IceCandidate, IceParameters, RtpHeaderExtensionParameters};

/// The node's side of a transport.
#[derive(Clone, Debug, PartialEq)]
pub struct Server<'a> {
    /// Number of the session (RFC 8866 §5.2).
    pub session: u64,
    /// ICE credentials.
    pub ice: &'a IceParameters,
    /// Where the node is reached.
    pub candidates: &'a [IceCandidate],
    /// Its certificate.
    pub dtls: &'a DtlsParameters,
}

/// What the node sends on a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its repetitions.
    pub rtx: Option<u32>,
    /// RTCP CNAME of all.
    pub cname: String,
}

/// What is agreed on a section.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accepted {
    pub codecs: Vec<Shared>,
    pub extensions: Vec<RtpHeaderExtensionParameters>,
    pub rids: Vec<String>,
    /// The node sends here; otherwise it receives.
    pub is_sent: bool,
}

impl Publication {
    /// The answer to the offer.
    pub fn answer(&self, server: &Server<'_>) -> String {
        answer(&self.offer, &self.accepted, &[], server)
    }
}

impl Playback {
    /// The answer to the offer, given what is sent on each active section.
    pub fn answer(&self, sent: &[Sent], server: &Server<'_>) -> String {
        answer(&self.offer, &self.accepted, sent, server)
    }
}

fn answer(offer: &Offer, accepted: &[Accepted], sent: &[Sent], server: &Server<'_>) -> String {
    let mut description = SessionDescription {
        origin: Origin {
            username: "callplane".into(),
            session_id: server.session,
            session_version: 1,
            network_type: "IN".into(),
            address_type: "IP4".into(),
            unicast_address: "0.0.0.0".into(),
        },
        session_name: "-".into(),
        time_descriptions: vec![TimeDescription::default()],
        ..SessionDescription::default()
    };
    let mut session = Attributes::default();
    if offer.bundles {
        let mids: Vec<&str> = offer.active().map(|section| section.mid.as_str()).collect();
        session.value("group", format!("BUNDLE {}", mids.join(" ")));
    }
    session.flag("ice-lite");
    session.value("ice-options", "trickle");
    if offer.mixes_extensions {
        session.flag("extmap-allow-mixed");
    }
    session.value("msid-semantic", "WMS *");
    description.attributes = session.0;
    let (mut accepted, mut sent) = (accepted.iter(), sent.iter());
    for section in &offer.sections {
        let agreement = if section.is_off { None } else { accepted.next() };
        let media = match agreement {
            Some(accepted) => agreed(section, accepted, sent.next(), offer, server),
            None => off(section),
        };
        description.media_descriptions.push(media);
    }
    description.marshal()
}

/// A section that is off (RFC 3264 §6).
fn off(section: &Section) -> MediaDescription {
    let mut attributes = Attributes::default();
    attributes.value("mid", &section.mid);
    attributes.flag("inactive");
    media(section, 0, section.formats.clone(), attributes)
}

fn agreed(
    section: &Section,
    accepted: &Accepted,
    sent: Option<&Sent>,
    offer: &Offer,
    server: &Server<'_>,
) -> MediaDescription {
    let mut lines = Attributes::default();
    lines.ice(server.ice, server.candidates);
    for fingerprint in &server.dtls.fingerprints {
        lines.value("fingerprint", format!("{} {}", fingerprint.algorithm, fingerprint.value));
    }
    // A client that may do either does what browsers do.
    lines.value("setup", if offer.dtls.role == DtlsRoleName::Server { "active" } else { "passive" });
    lines.value("mid", &section.mid);
    for extension in &accepted.extensions {
        lines.value("extmap", format!("{} {}", extension.id, extension.uri));
    }
    lines.flag(if accepted.is_sent { "sendonly" } else { "recvonly" });
    lines.flag("rtcp-mux");
    lines.flag("rtcp-mux-only");
    lines.flag("rtcp-rsize");
    for Shared { codec, .. } in &accepted.codecs {
        let parameters = &codec.parameters;
        let payload_type = parameters.payload_type;
        let name = parameters.mime_type.split_once('/').map_or("", |(_, name)| name);
        let channels = parameters.channels.map(|channels| format!("/{channels}")).unwrap_or_default();
        lines.value("rtpmap", format!("{payload_type} {name}/{}{channels}", parameters.clock_rate));
        if let Some(fmtp) = &codec.fmtp {
            lines.value("fmtp", format!("{payload_type} {fmtp}"));
        }
        for feedback in &parameters.rtcp_feedback {
            let text = format!("{payload_type} {} {}", feedback.r#type, feedback.parameter);
            lines.value("rtcp-fb", text.trim_end());
        }
    }
    for rid in &accepted.rids {
        lines.value("rid", format!("{rid} recv"));
    }
    if accepted.rids.len() > 1 {
        lines.value("simulcast", format!("recv {}", accepted.rids.join(";")));
    }
    if let Some(Sent { ssrc, rtx, cname }) = sent {
        let track = format!("{cname} {}", section.mid);
        lines.value("msid", &track);
        if let Some(rtx) = rtx {
            lines.value("ssrc-group", format!("FID {ssrc} {rtx}"));
        }
        for ssrc in [Some(*ssrc), *rtx].into_iter().flatten() {
            lines.value("ssrc", format!("{ssrc} cname:{cname}"));
            lines.value("ssrc", format!("{ssrc} msid:{track}"));
        }
    }
    let formats = accepted.codecs.iter().map(|codec| codec.codec.parameters.payload_type.to_string()).collect();
    media(section, 9, formats, lines)
}

fn media(section: &Section, port: isize, formats: Vec<String>, attributes: Attributes) -> MediaDescription {
    MediaDescription {
        media_name: MediaName {
            media: match section.kind {
                crate::ortc::Kind::Audio => "audio".into(),
                crate::ortc::Kind::Video => "video".into(),
            },
            port: RangedPort { value: port, range: None },
            protos: section.protocol.split('/').map(str::to_owned).collect(),
            formats,
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".into(),
            address_type: "IP4".into(),
            address: Some(Address { address: "0.0.0.0".into(), ttl: None, range: None }),
        }),
        attributes: attributes.0,
        ..MediaDescription::default()
    }
}

/// `a=` lines.
#[derive(Default)]
pub(super) struct Attributes(pub Vec<Attribute>);

impl Attributes {
    pub fn flag(&mut self, key: &str) {
        self.0.push(Attribute::new(key.into(), None));
    }

    pub fn value(&mut self, key: &str, value: impl Into<String>) {
        self.0.push(Attribute::new(key.into(), Some(value.into())));
    }

    /// Credentials and candidates; there will be no more of these.
    pub fn ice(&mut self, ice: &IceParameters, candidates: &[IceCandidate]) {
        self.value("ice-ufrag", &ice.username_fragment);
        self.value("ice-pwd", &ice.password);
        for (index, candidate) in candidates.iter().enumerate() {
            let IceCandidate { priority, address, protocol, port, r#type, tcp_type, .. } = candidate;
            let tcp = tcp_type.as_ref().map(|tcp_type| format!(" tcptype {tcp_type}")).unwrap_or_default();
            self.value("candidate", format!("{} 1 {protocol} {priority} {address} {port} typ {type}{tcp}", index + 1));
        }
        self.flag("end-of-candidates");
    }
}
