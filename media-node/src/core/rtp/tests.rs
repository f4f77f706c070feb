use super::*;
use crate::core::command::{ExtensionKind, HeaderExtension};
use proptest::prelude::*;
use rtc::shared::marshal::Unmarshal;

fn ids(list: &[(ExtensionKind, u8)]) -> Ids {
    Ids::new(&list.iter().map(|&(kind, id)| HeaderExtension { kind, id }).collect::<Vec<_>>())
}

fn rewrite<'a>(ids: &'a Ids, mid: &'a [u8]) -> Rewrite<'a> {
    Rewrite {
        ids,
        mid,
        payload_type: 101,
        ssrc: 0x1111_2222,
        sequence: 9,
        timestamp: 77,
        transport_cc: 0xabcd,
        abs_send_time: 0x0001_0203,
        rtx: None,
        descriptor: None,
    }
}

/// The shape of a packet Chromium sends: one-byte extensions, among them some that nobody negotiated.
fn chromium() -> Vec<u8> {
    let mut packet = vec![0x90, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 1, 0xca, 0xfe, 0xba, 0xbe];
    packet.extend_from_slice(&[0xbe, 0xde, 0, 4]);
    packet.extend_from_slice(&[0x22, 1, 2, 3, 0x31, 0x12, 0x34, 0x40, b'1', 0xd0, 2, 0, 0xa1, b'r', b'0', 0]);
    packet.extend_from_slice(b"payload");
    packet
}

#[test]
fn extensions_are_read_by_kind() {
    let packet = chromium();
    let header = Header::parse(&packet).unwrap();
    let ids = ids(&[
        (ExtensionKind::Mid, 4),
        (ExtensionKind::AbsSendTime, 2),
        (ExtensionKind::TransportCc, 3),
        (ExtensionKind::Rid, 10),
    ]);
    let values = Values::read(&packet, &header.extensions, &ids);
    assert_eq!(values.text(ExtensionKind::Mid), Some("1"));
    assert_eq!(values.text(ExtensionKind::Rid), Some("r0"));
    assert_eq!(values.transport_cc(), Some(0x1234));
    assert_eq!(values.get(ExtensionKind::VideoOrientation), None);
    assert_eq!(&packet[header.payload_offset..], b"payload");
}

#[test]
fn id_15_ends_a_one_byte_block_and_does_not_shift_the_payload() {
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0xbe, 0xde, 0, 2];
    packet.extend_from_slice(&[0x40, b'7', 0xf2, 9, 9, 9, 0x30, 1]);
    packet.extend_from_slice(b"payload");
    let header = Header::parse(&packet).unwrap();
    let mut seen = vec![];
    header.extensions.walk(&packet, |id, value| seen.push((id, value.to_vec())));
    assert_eq!(seen, [(4, b"7".to_vec())]);
    assert_eq!(&packet[header.payload_offset..], b"payload");
}

#[test]
fn a_block_of_padding_alone_is_forwarded() {
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0xbe, 0xde, 0, 2];
    packet.extend_from_slice(&[0; 8]);
    packet.extend_from_slice(b"payload");
    let header = Header::parse(&packet).unwrap();
    let mut out = vec![];
    let none = Ids::default();
    let len = rewrite(&none, b"").write(&mut out, &header, &Values::default(), &packet[header.payload_offset..]);
    assert_eq!(len, FIXED_HEADER);
    assert_eq!(&out[len..], b"payload");
}

#[test]
fn a_rewritten_packet_says_what_the_subscriber_negotiated() {
    let packet = chromium();
    let header = Header::parse(&packet).unwrap();
    let from = ids(&[(ExtensionKind::Mid, 4), (ExtensionKind::VideoOrientation, 13), (ExtensionKind::Rid, 10)]);
    let values = Values::read(&packet, &header.extensions, &from);
    let to = ids(&[
        (ExtensionKind::Mid, 1),
        (ExtensionKind::AbsSendTime, 4),
        (ExtensionKind::TransportCc, 5),
        (ExtensionKind::VideoOrientation, 11),
        (ExtensionKind::Rid, 2),
    ]);
    let mut out = vec![];
    let len = rewrite(&to, b"42").write(&mut out, &header, &values, &packet[header.payload_offset..]);
    let parsed = rtc::rtp::Packet::unmarshal(&mut &out[..]).unwrap();
    assert_eq!(parsed.header.ssrc, 0x1111_2222);
    assert_eq!(parsed.header.payload_type, 101);
    assert!(parsed.header.marker);
    assert_eq!(&parsed.payload[..], b"payload");
    assert_eq!(parsed.header.get_extension(1).as_deref(), Some(&b"42"[..]));
    assert_eq!(parsed.header.get_extension(4).as_deref(), Some(&[1u8, 2, 3][..]));
    assert_eq!(parsed.header.get_extension(5).as_deref(), Some(&[0xab, 0xcd][..]));
    assert_eq!(parsed.header.get_extension(11).as_deref(), Some(&[2u8][..]));
    assert_eq!(parsed.header.get_extension(2), None);
    assert_eq!(&out[len..], b"payload");
}

#[test]
fn a_mid_too_long_for_one_byte_extensions_uses_the_two_byte_form() {
    let packet = chromium();
    let header = Header::parse(&packet).unwrap();
    let to = ids(&[(ExtensionKind::Mid, 1)]);
    let mut out = vec![];
    rewrite(&to, b"a-very-long-mid-value").write(&mut out, &header, &Values::default(), b"x");
    let parsed = Header::parse(&out).unwrap();
    assert_eq!(Values::read(&out, &parsed.extensions, &to).text(ExtensionKind::Mid), Some("a-very-long-mid-value"));
}

#[test]
fn rtx_is_unwrapped_in_place() {
    let packet = chromium();
    let header = Header::parse(&packet).unwrap();
    let to = ids(&[(ExtensionKind::Mid, 1)]);
    let mut rtx = vec![];
    let mut how = rewrite(&to, b"1");
    how.rtx = Some(Rtx { original: 0x1234 });
    how.write(&mut rtx, &header, &Values::default(), &packet[header.payload_offset..]);
    let parsed = Header::parse(&rtx).unwrap();
    let start = unwrap_rtx(&mut rtx, &parsed, 96, 0xcafe_babe).unwrap();
    let restored = Header::parse(&rtx[start..]).unwrap();
    assert_eq!((restored.sequence, restored.ssrc, restored.payload_type), (0x1234, 0xcafe_babe, 96));
    assert!(restored.marker);
    assert_eq!(&rtx[start + restored.payload_offset..], b"payload");
}

#[test]
fn padding_longer_than_the_payload_is_refused() {
    let mut packet = vec![0xa0, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2];
    let len = |packet: &[u8]| Header::parse(packet).unwrap().payload_len(packet);
    packet.extend_from_slice(&[1, 2, 3, 2]);
    assert_eq!(len(&packet), Some(2));
    *packet.last_mut().unwrap() = 4;
    assert_eq!(len(&packet), Some(0));
    *packet.last_mut().unwrap() = 5;
    assert_eq!(len(&packet), None);
    *packet.last_mut().unwrap() = 0;
    assert_eq!(len(&packet), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..80), cut in 0usize..40, at in 0usize..40, byte: u8) {
        let all = ids(&[(ExtensionKind::Mid, 1), (ExtensionKind::TransportCc, 3), (ExtensionKind::AudioLevel, 15)]);
        let mut damaged = chromium();
        damaged[at % 32] = byte;
        damaged.truncate(40 - cut);
        for mut bytes in [noise, damaged] {
            let Some(header) = Header::parse(&bytes) else { continue };
            let values = Values::read(&bytes, &header.extensions, &all);
            let mut out = vec![];
            rewrite(&all, b"0").write(&mut out, &header, &values, &bytes[header.payload_offset..]);
            let again = Header::parse(&out).expect("what we write, we read");
            prop_assert_eq!(&out[again.payload_offset..], &bytes[header.payload_offset..]);
            let _ = header.payload_len(&bytes);
            let _ = unwrap_rtx(&mut bytes, &header, 1, 2);
        }
    }
}
