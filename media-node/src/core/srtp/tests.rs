//! RFC 7714 vectors, and `rtc::srtp` as the oracle for both profiles.

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
