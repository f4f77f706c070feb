//! Parsers by themselves: fast, so that many inputs are tried.

use std::net::SocketAddr;

use crate::core::codec::{Dependency, Red, picture, renumber_frame};
use crate::core::command::{Codec, ExtensionKind, HeaderExtension};
use crate::core::ice::Check;
use crate::core::rtp::{Header, Ids, Rewrite, Rtx, Values, unwrap_rtx};
use crate::core::sequence::Shift;
use crate::net::framing::{Deframer, frame};
use crate::ortc::{
    self, ConsumerIds, DtlsParameters, DtlsRoleName, IceCandidate, IceParameters, Kind, RtpCapabilities, RtpParameters,
};
use crate::sdp::{Fragment, Offer, Playback, Publication, Server};

/// Connectivity checks: what is accepted can be answered.
pub(super) fn stun(data: &[u8]) {
    let Ok(mut check) = Check::parse(data) else { return };
    let provider = rtc::crypto::default_provider().expect("a provider is compiled in");
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    assert!(!check.is_authentic("a password that nobody knows", provider.crypto()), "made without the password");
    assert!(check.local_ufrag().len() <= 256);
    check.answer(remote, "password", provider.crypto());
}

fn ids() -> Ids {
    let kinds = [
        ExtensionKind::Mid,
        ExtensionKind::AbsSendTime,
        ExtensionKind::TransportCc,
        ExtensionKind::AudioLevel,
        ExtensionKind::VideoOrientation,
        ExtensionKind::TransmissionOffset,
    ];
    let extensions: Vec<_> = kinds.into_iter().zip(1..).map(|(kind, id)| HeaderExtension { kind, id }).collect();
    Ids::new(&extensions)
}

/// Packets: what is forwarded is well-formed, carries the same payload, and repeats as it was.
pub(super) fn rtp(data: &[u8]) {
    let Some(header) = Header::parse(data) else { return };
    let ids = ids();
    let values = Values::read(data, &header.extensions, &ids);
    values.text(ExtensionKind::Mid);
    values.audio_level();
    if let Some(len) = header.payload_len(data) {
        assert!(header.payload_offset + len <= data.len());
    }
    let payload = &data[header.payload_offset..];
    for rtx in [None, Some(Rtx { original: 0x1234 })] {
        let rewrite = Rewrite {
            ids: &ids,
            mid: b"7",
            payload_type: 101,
            ssrc: 0x0102_0304,
            sequence: 5,
            timestamp: 6,
            transport_cc: 7,
            abs_send_time: 8,
            rtx,
            descriptor: None,
        };
        let mut out = Vec::new();
        let len = rewrite.write(&mut out, &header, &values, payload);
        let mut written = Header::parse(&out).expect("what is written is RTP");
        assert_eq!((written.payload_offset, written.ssrc, written.timestamp), (len, 0x0102_0304, 6));
        assert_eq!((written.marker, written.padding), (header.marker, header.padding));
        if rtx.is_some() {
            let start = unwrap_rtx(&mut out, &written, 99, 0x0506_0708).expect("as RFC 4588 says");
            out.drain(..start);
            written = Header::parse(&out).expect("a repaired packet is RTP");
            assert_eq!((written.sequence, written.ssrc, written.payload_type), (0x1234, 0x0506_0708, 99));
        }
        assert_eq!(&out[written.payload_offset..], payload);
        let again = Values::read(&out, &written.extensions, &ids);
        assert_eq!(again.text(ExtensionKind::Mid), Some("7"));
        // Values that the one-byte form cannot hold are left out.
        if let Some(level) = values.get(ExtensionKind::AudioLevel).filter(|v| (1..=16).contains(&v.len())) {
            assert_eq!(again.get(ExtensionKind::AudioLevel), Some(level));
        }
    }
    let mut packet = data.to_vec();
    unwrap_rtx(&mut packet, &header, 100, 1);
}

/// Payload formats of each codec, and the dependency descriptors of AV1.
pub(super) fn payloads(data: &[u8]) {
    let shift = |picture_id, tl0_pic_idx| Shift { picture_id, tl0_pic_idx, ..Shift::default() };
    for codec in [Codec::Opus, Codec::Red, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Other] {
        let mut payload = data.to_vec();
        picture(codec, data, false, None).numbers.shift(&mut payload, &shift(3, 5));
        assert_eq!(payload.len(), data.len());
        let back = shift(3_u16.wrapping_neg(), 5_u8.wrapping_neg());
        picture(codec, &payload, false, None).numbers.shift(&mut payload, &back);
        assert_eq!(payload, data, "renumbering can be undone");
    }
    if let Some(red) = Red::parse(data) {
        let mut renamed = data.to_vec();
        red.rename(&mut renamed, 100);
        let again = Red::parse(&renamed).expect("only its payload type is another");
        assert_eq!((again.payload_type, again.is_uniform, again.primary), (100, true, red.primary));
        assert_eq!(renamed[red.primary..], data[red.primary..]);
    }
    // A key frame's descriptor, and others that refer to what it brought.
    let mut known = None;
    for descriptor in data.split(|byte| *byte == 0xff) {
        let mut copy = descriptor.to_vec();
        renumber_frame(&mut copy, 9);
        let Some((dependency, structure)) = Dependency::parse(descriptor, known.as_ref()) else { continue };
        known = structure.or(known);
        let (again, _) = Dependency::parse(&copy, known.as_ref()).expect("only its number is another");
        assert_eq!(again.frame_number, dependency.frame_number.wrapping_add(9));
        picture(Codec::Av1, data, false, Some(dependency));
    }
}

/// JSON of clients: what is accepted can be consumed or is refused, and never fails later.
pub(super) fn parameters(data: &[u8]) {
    let router = ortc::router_capabilities();
    if let Ok(parameters) = serde_json::from_slice::<RtpParameters>(data) {
        for kind in [Kind::Audio, Kind::Video] {
            let Ok(spec) = ortc::producer_spec(kind, &parameters, router, false) else { continue };
            assert!(!spec.codecs.is_empty() && !spec.encodings.is_empty());
            let consumable = ortc::consumable(kind, &parameters, router);
            let ids = ConsumerIds { mid: "0".into(), ssrc: 1, cname: "c".into() };
            let (consumed, _) = ortc::consumer_rtp_parameters(&consumable, router, ids, false)
                .expect("who can do all that the router can do can consume all that it accepted");
            serde_json::to_string(&consumed).expect("it is JSON again");
        }
    }
    if let Ok(capabilities) = serde_json::from_slice::<RtpCapabilities>(data) {
        let consumable = RtpParameters {
            mid: None,
            codecs: Vec::new(),
            header_extensions: Vec::new(),
            encodings: Vec::new(),
            rtcp: Default::default(),
        };
        ortc::can_consume(&consumable, &capabilities);
    }
    if let Ok(dtls) = serde_json::from_slice::<DtlsParameters>(data)
        && let Ok((_, fingerprints)) = ortc::client_dtls(&dtls)
    {
        assert!(fingerprints.iter().all(|f| matches!(f.digest.len(), 32 | 48 | 64)));
    }
}

/// Offers and fragments of WHIP and WHEP: what is accepted is answered section by section, in SDP that can be read.
pub(super) fn sdp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let router = ortc::router_capabilities();
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.ice_ufrag.is_none_or(|ufrag| (4..=256).contains(&ufrag.len())));
    }
    let Ok(offer) = Offer::parse(text) else { return };
    let ice = IceParameters { username_fragment: "ufrag".into(), password: "x".repeat(22), ice_lite: true };
    let candidates = [IceCandidate::host(SocketAddr::from(([192, 0, 2, 1], 9)), 0)];
    let dtls = DtlsParameters { role: DtlsRoleName::Auto, fingerprints: offer.dtls.fingerprints.clone() };
    let server = Server { session: 1, ice: &ice, candidates: &candidates, dtls: &dtls };
    let answers = [
        Publication::new(offer.clone(), router).map(|publication| publication.answer(&server)),
        Playback::new(offer.clone(), router).map(|playback| playback.answer(&[], &server)),
    ];
    for answer in answers.into_iter().flatten() {
        assert_eq!(answer.matches("a=ice-lite\r\n").count(), 1, "the client wrote a line of the answer");
        let read = Offer::parse(&answer.replacen("a=ice-lite\r\n", "", 1)).expect("what is written can be read");
        assert_eq!(read.sections.len(), offer.sections.len());
    }
}

/// Datagrams on a connection: the same ones come out wherever the stream is split, and nothing else.
pub(super) fn frames(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let read = |size: usize| {
        let (mut deframer, mut read) = (Deframer::default(), Vec::new());
        let end = stream.chunks(size).try_for_each(|piece| deframer.push(piece, |frame| read.push(frame.to_vec())));
        (end, read)
    };
    let whole = read(usize::MAX);
    assert_eq!(read(usize::from(*size) + 1), whole, "it depends on where the stream is split");
    let again: Vec<u8> = whole.1.iter().flat_map(|datagram| frame(datagram, datagram.len())).collect();
    assert!(stream.starts_with(&again), "what comes out is not what went in");
}
