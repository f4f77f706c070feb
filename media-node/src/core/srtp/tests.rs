//! Vectors of RFC 3711, RFC 7714 and libsrtp, and `rtc::srtp` as the oracle for both profiles.

use super::keys::{Label, derive};
use super::*;
use proptest::prelude::*;
use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;
use std::sync::Arc;

fn provider() -> Arc<dyn RTCCryptoProvider> {
    default_provider().expect("a provider is compiled in")
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn rfc_7714() -> Cipher {
    let key: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    let salt: [u8; 12] = hex("51756964 2070726f 2071756f").try_into().unwrap();
    Cipher::gcm(provider().crypto(), (&key, salt), (&key, salt)).unwrap()
}

#[test]
fn rtp_matches_rfc_7714_section_16_1_1() {
    let plain = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
    );
    let expected = hex(
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
    );
    let mut packet = plain.clone();
    packet.resize(plain.len() + 16, 0);
    rfc_7714().seal_rtp(&mut packet, 12, 0x5501_a0b2, 0xf17b).unwrap();
    assert_eq!(packet, expected);
    assert_eq!(rfc_7714().open_rtp(&mut packet, 12, 0x5501_a0b2, 0xf17b), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

#[test]
fn rtcp_matches_rfc_7714_section_17_1() {
    let plain = hex(
        "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
    );
    let expected = hex(
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
    );
    let mut packet = plain.clone();
    rfc_7714().seal_rtcp(&mut packet, 0x4d61_7273, 0x5d4).unwrap();
    assert_eq!(packet, expected);
    assert_eq!(rfc_7714().open_rtcp(&mut packet), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

/// The master key and salt of RFC 3711 B.3, which libsrtp's tests use as well.
fn rfc_3711() -> Master {
    let key = hex("e1f97a0d 3e018be0 d64fa32c 06de4139").try_into().unwrap();
    Master { key, salt: hex("0ec675ad 498afeeb b6960b3a abe6") }
}

#[test]
fn the_keystream_matches_rfc_3711_appendix_b_2() {
    let key: [u8; 16] = hex("2b7e1516 28aed2a6 abf71588 09cf4f3c").try_into().unwrap();
    let salt: [u8; 14] = hex("f0f1f2f3 f4f5f6f7 f8f9fafb fcfd").try_into().unwrap();
    let session = (&key, &[0; 20], salt);
    let mut cipher = Cipher::cm(provider().crypto(), session, session).unwrap();
    // SSRC, rollover counter and sequence number are zero, and so is the payload: what comes out is the keystream.
    let (header, blocks) = (12, 0xff02);
    let mut packet = vec![0; header + blocks * 16 + cipher.rtp_overhead()];
    cipher.seal_rtp(&mut packet, header, 0, 0).unwrap();
    for (counter, expected) in [
        (0, "e03ead09 35c95e80 e166b16d d92b4eb4"),
        (1, "d2351316 2b02d0f7 2a43a2fe 4a5f97ab"),
        (2, "41e95b3b b0a2e8dd 477901e4 fca894c0"),
        (0xfeff, "ec8cdf73 98607cb0 f2d21675 ea9ea1e4"),
        (0xff00, "362b7c3c 67735163 18a077d7 fc5073ae"),
        (0xff01, "6a2cc378 7889374f beb4c81b 17ba6c44"),
    ] {
        assert_eq!(packet[header + counter * 16..][..16], hex(expected), "{counter:#06x}");
    }
}

#[test]
fn session_keys_match_rfc_3711_appendix_b_3() {
    for (label, expected) in [
        (Label::RtpKey, "c61e7a93 744f39ee 10734afe 3ff7a087"),
        (Label::RtpSalt, "30cbbc08 863d8c85 d49db34a 9ae1"),
        (
            Label::RtpAuth,
            "cebe321f 6ff7716b 6fd4ab49 af256a15 6d38baa4 8f0a0acf 3c34e235 9e6cdbce
             e049646c 43d9327a d175578e f7227098 6371c10c 9a369ac2 f94a8c5f bcdddc25
             6d6e919a 48b610ef 17c2041e 47403576 6b68642c 59bbfc2f 34db60db dfb2",
        ),
    ] {
        let expected = hex(expected);
        let mut derived = vec![0; expected.len()];
        derive(provider().crypto(), &rfc_3711(), label, &mut derived).unwrap();
        assert_eq!(derived, expected, "{}", label as u8);
    }
}

/// Those of `srtp_validate` in libsrtp's `test/srtp_driver.c`.
#[test]
fn packets_of_the_sha1_profile_match_those_of_libsrtp() {
    let profile = Profile::AesCm128HmacSha1_80;
    let cipher = || Cipher::new(profile, &rfc_3711(), provider().crypto()).unwrap();
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let sealed = hex("800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb");
    let mut packet = plain.clone();
    packet.resize(plain.len() + cipher().rtp_overhead(), 0);
    cipher().seal_rtp(&mut packet, 12, 0xcafe_babe, 0x1234).unwrap();
    assert_eq!(packet, sealed);
    assert_eq!(cipher().open_rtp(&mut packet, 12, 0xcafe_babe, 0x1234), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);

    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    let sealed = hex("81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798");
    let mut packet = plain.clone();
    cipher().seal_rtcp(&mut packet, 0xcafe_babe, 1).unwrap();
    assert_eq!(packet, sealed);
    assert_eq!(cipher().open_rtcp(&mut packet), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

fn material(profile: Profile, seed: u8) -> KeyingMaterial {
    let bytes: Vec<u8> = (0..KeyingMaterial::len(profile)).map(|i| (i as u8).wrapping_mul(37) ^ seed).collect();
    KeyingMaterial::from_exported(profile, &bytes).unwrap()
}

fn oracle(profile: Profile, master: &Master) -> Context {
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(
        &master.key,
        &master.salt,
        profile,
        Some(srtp_no_replay_protection()),
        Some(srtcp_no_replay_protection()),
        provider().crypto(),
    )
    .unwrap()
}

fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&7u32.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn any_profile() -> impl Strategy<Value = Profile> {
    prop_oneof![Just(Profile::AeadAes128Gcm), Just(Profile::AesCm128HmacSha1_80)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sealed_rtp_is_what_the_oracle_seals(
        profile in any_profile(),
        ssrc: u32,
        start in 0u16..0x7fff,
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
    ) {
        let keys = material(profile, 1);
        let mut ours = Srtp::new(&keys, false, provider().crypto()).unwrap();
        let mut oracle = oracle(profile, &keys.server);
        let mut used = IndexWindow::default();
        // Strides that cross a rollover within a few packets.
        for (i, payload) in payloads.iter().enumerate() {
            let index = u64::from(start) + i as u64 * 20_000;
            let plain = rtp(index as u16, ssrc, payload);
            let expected = oracle.encrypt_rtp(&plain).unwrap();
            let mut packet = plain.clone();
            packet.resize(plain.len() + ours.outbound.rtp_overhead(), 0);
            ours.outbound.seal_rtp(&mut used, &mut packet, 12, ssrc, index).unwrap();
            prop_assert_eq!(&packet[..], &expected[..]);
        }
    }

    #[test]
    fn rtp_of_the_oracle_opens(
        profile in any_profile(),
        ssrc: u32,
        start in 0u16..0x7fff,
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
    ) {
        let keys = material(profile, 2);
        let mut ours = Srtp::new(&keys, false, provider().crypto()).unwrap();
        let mut oracle = oracle(profile, &keys.client);
        let mut window = IndexWindow::default();
        for (i, payload) in payloads.iter().enumerate() {
            let index = u64::from(start) + i as u64 * 20_000;
            let plain = rtp(index as u16, ssrc, payload);
            let mut packet = oracle.encrypt_rtp(&plain).unwrap().to_vec();
            let mut again = packet.clone();
            let opened = ours.inbound.open_rtp(&mut window, &mut packet, 12, ssrc, index as u16);
            prop_assert_eq!(opened, Ok((index, plain.len())));
            prop_assert_eq!(&packet[..plain.len()], &plain[..]);
            let replayed = ours.inbound.open_rtp(&mut window, &mut again, 12, ssrc, index as u16);
            prop_assert_eq!(replayed, Err(Drop::SrtpReplay));
        }
    }

    #[test]
    fn rtcp_goes_both_ways(profile in any_profile(), body in prop::collection::vec(any::<u8>(), 0..64), ssrc: u32) {
        let keys = material(profile, 3);
        let mut ours = Srtp::new(&keys, false, provider().crypto()).unwrap();
        let mut to_client = oracle(profile, &keys.server);
        let mut from_client = oracle(profile, &keys.client);
        let mut plain = vec![0x80, 201, 0, 0];
        plain.extend_from_slice(&ssrc.to_be_bytes());
        plain.extend_from_slice(&body);
        for _ in 0..3 {
            let mut packet = plain.clone();
            ours.outbound.seal_rtcp(&mut packet).unwrap();
            prop_assert_eq!(&to_client.decrypt_rtcp(&packet).unwrap()[..], &plain[..]);

            let mut packet = from_client.encrypt_rtcp(&plain).unwrap().to_vec();
            let mut again = packet.clone();
            prop_assert_eq!(ours.inbound.open_rtcp(&mut packet, 4, |_| true), Ok(plain.len()));
            prop_assert_eq!(&packet[..plain.len()], &plain[..]);
            prop_assert_eq!(ours.inbound.open_rtcp(&mut again, 4, |_| true), Err(Drop::SrtcpReplay));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_leaves_no_state(profile in any_profile(), at in 0usize..60, bit in 0u8..8) {
        let keys = material(profile, 4);
        let mut ours = Srtp::new(&keys, false, provider().crypto()).unwrap();
        let mut packet = oracle(profile, &keys.client).encrypt_rtp(&rtp(9, 77, &[5; 60])).unwrap().to_vec();
        let at = at % packet.len();
        packet[at] ^= 1 << bit;
        let mut window = IndexWindow::default();
        // A changed sequence number or SSRC in the header changes what we are asked to open, too.
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        prop_assert_eq!(ours.inbound.open_rtp(&mut window, &mut packet, 12, ssrc, sequence), Err(Drop::SrtpAuth));
        prop_assert_eq!(window.highest(), None);
    }

    #[test]
    fn arbitrary_bytes_never_panic(profile in any_profile(), mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut ours = Srtp::new(&material(profile, 5), false, provider().crypto()).unwrap();
        let mut copy = bytes.clone();
        prop_assert!(ours.inbound.open_rtcp(&mut copy, 4, |_| true).is_err());
        let header = bytes.len().min(12);
        prop_assert!(ours.inbound.open_rtp(&mut IndexWindow::default(), &mut bytes, header, 1, 1).is_err());
    }
}

#[test]
fn an_index_is_sealed_once() {
    let mut ours = Srtp::new(&material(Profile::AeadAes128Gcm, 6), false, provider().crypto()).unwrap();
    let mut used = IndexWindow::default();
    let mut packet = rtp(5, 1, &[0; 40]);
    assert_eq!(ours.outbound.seal_rtp(&mut used, &mut packet, 12, 1, 5), Ok(()));
    assert_eq!(ours.outbound.seal_rtp(&mut used, &mut packet, 12, 1, 5), Err(Drop::IndexReused));
}

#[test]
fn rtcp_senders_are_bounded_and_make_room_for_new_ones() {
    let keys = material(Profile::AeadAes128Gcm, 7);
    let mut ours = Srtp::new(&keys, false, provider().crypto()).unwrap();
    let mut client = oracle(Profile::AeadAes128Gcm, &keys.client);
    let mut sealed = |ssrc: u32| {
        let mut plain = vec![0x80, 201, 0, 1];
        plain.extend_from_slice(&ssrc.to_be_bytes());
        client.encrypt_rtcp(&plain).unwrap().to_vec()
    };
    let mut first = sealed(0);
    let mut again = first.clone();
    assert_eq!(ours.inbound.open_rtcp(&mut first, 4, |_| true), Ok(8));
    for ssrc in 1..6 {
        let expected = if ssrc < 4 { Ok(8) } else { Err(Drop::RtcpSenders) };
        assert_eq!(ours.inbound.open_rtcp(&mut sealed(ssrc), 4, |_| true), expected);
    }
    for ssrc in 6..100 {
        assert_eq!(ours.inbound.open_rtcp(&mut sealed(ssrc), 4, |ssrc| ssrc < 2), Ok(8));
        assert!(ours.inbound.senders.len() <= 4);
    }
    assert_eq!(ours.inbound.open_rtcp(&mut again, 4, |ssrc| ssrc < 2), Err(Drop::SrtcpReplay), "published still");
}
