//! An offer, read and checked as far as it can be without knowing what it is for.

use std::collections::HashSet;

use rtc::sdp::description::{common::Attribute, media::MediaDescription, session::SessionDescription};

use super::{
    Error,
    codec::{Codec, codecs},
    grammar::{description, has, is_ice, is_token, value, values},
    malformed, simulcast, unacceptable,
};
use crate::ortc::{
    Direction, DtlsFingerprint, DtlsParameters, DtlsRoleName, Kind, RtpEncodingParameters,
    RtpHeaderExtensionParameters, Rtx, client_dtls,
};

/// The only transport there is (RFC 8827 §6.5); `SAVPF` over `UDP/TLS` or, from older clients, by itself.
const PROTOCOLS: [&str; 2] = ["UDP/TLS/RTP/SAVPF", "RTP/SAVPF"];

/// Longest `mid` and `rid`: what fits a one-byte header extension (RFC 8285 §4.2).
const MAX_ID: usize = 16;
/// Most `a=extmap`, `a=ssrc` and `a=candidate` lines of a section.
const MAX_EXTENSIONS: usize = 64;
const MAX_SSRC_LINES: usize = 128;
pub(super) const MAX_CANDIDATES: usize = 128;

/// An SDP offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The client's ICE username fragment: another one is an ICE restart.
    pub ice_ufrag: String,
    /// The client's DTLS parameters. `Auto` is `a=setup:actpass`.
    pub dtls: DtlsParameters,
    /// Media sections in order.
    pub sections: Vec<Section>,
    /// The offer has a BUNDLE group.
    pub(super) bundles: bool,
    /// One- and two-byte header extensions may be mixed (RFC 8285 §6).
    pub(super) mixes_extensions: bool,
}

/// One media section.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Audio or video.
    pub kind: Kind,
    /// Its name, unique in the offer.
    pub mid: String,
    /// Which way media flows, seen from the client.
    pub direction: Direction,
    /// Offered with port zero outside of a bundle: it is off, and stays off.
    pub is_off: bool,
    /// `m=` protocol.
    pub(super) protocol: String,
    /// `m=` formats.
    pub(super) formats: Vec<String>,
    /// Codecs, most preferred first.
    pub(super) codecs: Vec<Codec>,
    /// Header extensions.
    pub(super) extensions: Vec<RtpHeaderExtensionParameters>,
    /// Streams that the client would send.
    pub(super) encodings: Vec<RtpEncodingParameters>,
    /// RTCP CNAME of these.
    pub(super) cname: Option<String>,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let session = description(text)?;
        if session.media_descriptions.is_empty() {
            return malformed("the offer has no media section");
        }
        let bundle = bundle(&session)?;
        let mut sections = Vec::new();
        let mut mids = HashSet::new();
        for media in &session.media_descriptions {
            let section = section(media, &session.attributes, bundle.as_deref().unwrap_or_default())?;
            if !mids.insert(section.mid.clone()) {
                return malformed(format!("a=mid:{} is there twice", section.mid));
            }
            sections.push(section);
        }
        let active = || sections.iter().zip(&session.media_descriptions).filter(|(section, _)| !section.is_off);
        let Some((_, tagged)) = active().next() else { return malformed("every media section is off") };
        match &bundle {
            None if active().count() > 1 => {
                return unacceptable("media sections must share one transport: offer a=group:BUNDLE with all of them");
            }
            Some(bundle) => {
                if let Some((outside, _)) = active().find(|(section, _)| !bundle.contains(&section.mid)) {
                    let text =
                        format!("media section {} is not in a=group:BUNDLE: offer all in one bundle", outside.mid);
                    return unacceptable(text);
                }
            }
            None => (),
        }
        let (ice_ufrag, dtls) = transport(tagged, &session.attributes)?;
        Ok(Self {
            ice_ufrag,
            dtls,
            sections,
            bundles: bundle.is_some(),
            mixes_extensions: has(&session.attributes, "extmap-allow-mixed"),
        })
    }

    /// Sections that are not off.
    pub fn active(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| !section.is_off)
    }
}

/// `mid`s of the BUNDLE group (RFC 9143). There may be only one.
fn bundle(session: &SessionDescription) -> Result<Option<Vec<String>>, Error> {
    let mut groups = values(&session.attributes, "group").filter_map(|group| group.strip_prefix("BUNDLE"));
    let group = groups.next().map(|mids| mids.split_whitespace().map(str::to_owned).collect());
    if groups.next().is_some() {
        return unacceptable("the offer has several BUNDLE groups: offer all media in one");
    }
    Ok(group)
}

/// What belongs to the transport, from the section that stands for the bundle (RFC 9143 §9) or the session.
fn transport(tagged: &MediaDescription, session: &[Attribute]) -> Result<(String, DtlsParameters), Error> {
    let one = |key| value(&tagged.attributes, key).or_else(|| value(session, key));
    let ufrag = one("ice-ufrag").filter(|ufrag| is_ice(ufrag, 4));
    let Some(ufrag) = ufrag else { return malformed("a=ice-ufrag is missing or not 4 to 256 ICE characters") };
    if !one("ice-pwd").is_some_and(|password| is_ice(password, 22)) {
        return malformed("a=ice-pwd is missing or not 22 to 256 ICE characters");
    }
    if has(session, "ice-lite") {
        return unacceptable("the node is ICE-lite, so the client must not be: offer without a=ice-lite");
    }
    if !has(&tagged.attributes, "rtcp-mux") {
        return unacceptable("RTCP needs the port of RTP: offer a=rtcp-mux");
    }
    let role = match one("setup") {
        None | Some("actpass") => DtlsRoleName::Auto,
        Some("active") => DtlsRoleName::Client,
        Some("passive") => DtlsRoleName::Server,
        Some(_) => return unacceptable("a=setup must be actpass, active or passive"),
    };
    let mut fingerprints: Vec<&str> = values(&tagged.attributes, "fingerprint").collect();
    if fingerprints.is_empty() {
        fingerprints = values(session, "fingerprint").collect();
    }
    let fingerprints = fingerprints
        .into_iter()
        .filter_map(|text| text.split_once(' '))
        .map(|(algorithm, value)| DtlsFingerprint { algorithm: algorithm.to_owned(), value: value.trim().to_owned() });
    let dtls = DtlsParameters { role, fingerprints: fingerprints.collect() };
    client_dtls(&dtls).map_err(|error| match error {
        crate::ortc::Error::Invalid { reason, .. } => Error::Malformed(format!("a=fingerprint: {reason}")),
        crate::ortc::Error::Unsupported { reason, .. } => Error::Unacceptable(format!("a=fingerprint: {reason}")),
    })?;
    Ok((ufrag.to_owned(), dtls))
}

fn section(media: &MediaDescription, session: &[Attribute], bundle: &[String]) -> Result<Section, Error> {
    let name = &media.media_name;
    let kind = match name.media.as_str() {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        other => return unacceptable(format!("m={other} is not for here: offer audio and video only")),
    };
    let Some(mid) = value(&media.attributes, "mid").filter(|mid| is_token(mid, MAX_ID)) else {
        return malformed(format!("an m={} section has no a=mid of 1 to {MAX_ID} token characters", name.media));
    };
    let protocol = name.protos.join("/");
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return unacceptable(format!("m={} … {protocol}: offer {}", name.media, PROTOCOLS[0]));
    }
    if values(&media.attributes, "candidate").nth(MAX_CANDIDATES).is_some() {
        return malformed(format!("media section {mid} has more than {MAX_CANDIDATES} candidates"));
    }
    let is_bundle_only = has(&media.attributes, "bundle-only") && bundle.iter().any(|other| other == mid);
    let is_off = name.port.value == 0 && !is_bundle_only;
    let mut section = Section {
        kind,
        mid: mid.to_owned(),
        direction: direction(&media.attributes).or_else(|| direction(session)).unwrap_or_default(),
        is_off,
        protocol,
        formats: name.formats.clone(),
        codecs: codecs(media)?,
        extensions: extensions(&media.attributes, mid)?,
        encodings: Vec::new(),
        cname: None,
    };
    streams(&media.attributes, &mut section)?;
    Ok(section)
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match attribute.key.as_str() {
        "sendrecv" => Some(Direction::Sendrecv),
        "sendonly" => Some(Direction::Sendonly),
        "recvonly" => Some(Direction::Recvonly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

/// `a=extmap:<id>[/<direction>] <uri> [<attributes>]` (RFC 8285 §5).
fn extensions(attributes: &[Attribute], mid: &str) -> Result<Vec<RtpHeaderExtensionParameters>, Error> {
    let mut extensions: Vec<RtpHeaderExtensionParameters> = Vec::new();
    for text in values(attributes, "extmap") {
        let mut words = text.split_whitespace();
        let id = words.next().and_then(|id| id.split('/').next()?.parse::<u16>().ok());
        let (Some(id), Some(uri)) = (id, words.next()) else {
            return malformed(format!("a=extmap:{text} is not an id and a URI"));
        };
        // Above: for lists of alternatives (RFC 8285 §7), which nobody needs to see here.
        let Ok(id) = u8::try_from(id) else { continue };
        if id == 0 || extensions.iter().any(|earlier| earlier.id == id) {
            return malformed(format!("media section {mid}: extension id {id} is 0 or there twice"));
        }
        if extensions.len() == MAX_EXTENSIONS {
            return malformed(format!("media section {mid} has more than {MAX_EXTENSIONS} extensions"));
        }
        let parameters = serde_json::Map::new();
        extensions.push(RtpHeaderExtensionParameters { uri: uri.to_owned(), id, encrypt: false, parameters });
    }
    Ok(extensions)
}

/// Encodings by rid (RFC 8853), or by SSRC (RFC 5576), or unknown before they come.
fn streams(attributes: &[Attribute], section: &mut Section) -> Result<(), Error> {
    let mut ssrcs: Vec<u32> = Vec::new();
    for (line, text) in values(attributes, "ssrc").enumerate() {
        if line == MAX_SSRC_LINES {
            return malformed(format!("media section {} has more than {MAX_SSRC_LINES} a=ssrc lines", section.mid));
        }
        let (number, attribute) = text.split_once(' ').unwrap_or((text, ""));
        let Some(ssrc) = number.parse().ok().filter(|ssrc| *ssrc != 0) else {
            return malformed(format!("a=ssrc:{text} does not start with an SSRC"));
        };
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
        if let Some(cname) = attribute.strip_prefix("cname:")
            && section.cname.is_none()
        {
            section.cname = Some(cname.to_owned());
        }
    }
    let groups: Vec<(&str, Vec<u32>)> = values(attributes, "ssrc-group")
        .filter_map(|group| group.split_once(' '))
        .map(|(semantics, members)| (semantics, members.split_whitespace().filter_map(|n| n.parse().ok()).collect()))
        .collect();
    let repair = |ssrc| {
        groups.iter().find_map(|(semantics, members)| match members.as_slice() {
            [media, rtx] if *semantics == "FID" && *media == ssrc => Some(*rtx),
            _ => None,
        })
    };
    let rids = simulcast::rids(attributes, &section.mid, MAX_ID)?;
    if !rids.is_empty() {
        let by_rid = |rid| RtpEncodingParameters { rid: Some(rid), ..Default::default() };
        section.encodings = rids.into_iter().map(by_rid).collect();
        return Ok(());
    }
    let simulcast = groups.iter().find(|(semantics, _)| *semantics == "SIM").map(|(_, members)| members.clone());
    // Of several that no group explains, the first is the media.
    let media = simulcast.unwrap_or_else(|| ssrcs.first().copied().into_iter().collect());
    section.encodings = match media.len() {
        0 => vec![RtpEncodingParameters::default()],
        1..=simulcast::MAX_RIDS => media
            .into_iter()
            .map(|ssrc| RtpEncodingParameters {
                ssrc: Some(ssrc),
                rtx: repair(ssrc).map(|ssrc| Rtx { ssrc }),
                ..Default::default()
            })
            .collect(),
        _ => return malformed(format!("media section {} has more than {} streams", section.mid, simulcast::MAX_RIDS)),
    };
    Ok(())
}
