//! Descriptors made by hand after the specification, recorded from a browser, and hostile ones.

use super::*;
use crate::core::testing::bits::BitWriter;
use proptest::prelude::*;

/// L1T2 in two decode targets, as in the examples of A.9, with one chain.
fn structure(bits: &mut BitWriter) {
    // Offset 5, two decode targets.
    bits.put(5, 6).put(1, 5);
    // Three templates: T0 key, T0, T1.
    bits.put(0, 2).put(1, 2).put(3, 2);
    // Indications: switch switch; switch required; absent discardable.
    for indication in [2, 2, 2, 3, 0, 1] {
        bits.put(indication, 2);
    }
    // References: none; 2 back; 1 back.
    bits.put(0, 1).put(1, 1).put(1, 4).put(0, 1).put(1, 1).put(0, 4).put(0, 1);
    // One chain (ns(3) = 1: bits 10), both targets protected by it (ns(1): no bits), its distances.
    bits.put(0b10, 2).put(0, 4).put(2, 4).put(1, 4);
    // One resolution.
    bits.put(1, 1).put(639, 16).put(359, 16);
}

fn key() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.put(1, 1).put(0, 1).put(5, 6).put(300, 16).put(0b10000, 5);
    structure(&mut bits);
    bits.bytes()
}

#[test]
fn a_structure_is_read_and_later_descriptors_refer_to_it() {
    let (first, structure) = Dependency::parse(&key(), None).unwrap();
    let structure = structure.unwrap();
    assert_eq!((first.first_in_frame, first.last_in_frame, first.frame_number), (true, false, 300));
    assert_eq!((first.spatial, first.temporal, first.diffs()), (0, 0, &[][..]));
    assert_eq!(first.highest, Layers { spatial: 0, temporal: 1 });
    assert!(first.switches_to(0, 0) && first.switches_to(0, 1) && first.picture(false).starts);
    // Three bytes are enough from here on.
    let short = |template: u8, number: u16| {
        let [high, low] = number.to_be_bytes();
        Dependency::parse(&[0xc0 | template, high, low], Some(&structure))
    };
    let (base, none) = short(6, 302).unwrap();
    assert!(none.is_none() && base.first_in_frame && base.last_in_frame);
    assert_eq!((base.temporal, base.diffs()), (0, &[2][..]));
    assert!(base.switches_to(0, 0) && !base.switches_to(0, 1));
    let (upper, _) = short(7, 303).unwrap();
    assert_eq!((upper.temporal, upper.diffs(), upper.switches_to(0, 1)), (1, &[1][..], false));
    assert_eq!(short(8, 304), None, "no such template");
    assert_eq!(short(4, 304), None, "before the first template");
    assert_eq!(Dependency::parse(&[0xc5, 1, 2], None), None, "no structure is known");
}

#[test]
fn a_frame_may_differ_from_its_template() {
    let (_, structure) = Dependency::parse(&key(), None).unwrap();
    let mut bits = BitWriter::default();
    // Template T1, with active targets, own indications, own references, own chains.
    bits.put(0b11, 2).put(7, 6).put(9, 16).put(0b01111, 5).put(0b11, 2);
    bits.put(0b10_10, 4);
    bits.put(1, 2).put(3, 4).put(2, 2).put(41, 8).put(3, 2).put(700, 12).put(0, 2);
    bits.put(77, 8);
    let (frame, _) = Dependency::parse(&bits.bytes(), structure.as_ref()).unwrap();
    assert_eq!(frame.diffs(), [4, 42, 701]);
    assert!(frame.switches_to(0, 0) && frame.switches_to(0, 1));
    assert_eq!(frame.temporal, 1);
}

/// What Chromium 156 sent with the first packet of a key picture of `L3T3_KEY` at 960x540.
#[rustfmt::skip]
const CHROMIUM_KEY: [u8; 90] = [
    0xc0, 0x00, 0x1c, 0x80, 0x08, 0x14, 0x85, 0x21, 0x4e, 0xaa, 0xaa, 0xa8, 0x00, 0x06, 0x00, 0x00, 0x40, 0x00, 0x10, 0x00, 0x02, 0xaa, 0x80, 0xa8,
    0x00, 0x06, 0x00, 0x00, 0x40, 0x00, 0x10, 0x00, 0x02, 0xa0, 0x00, 0xa8, 0x00, 0x06, 0x00, 0x00, 0x40, 0x00, 0x16, 0xd5, 0x49, 0x24, 0x1b, 0x55,
    0x24, 0x90, 0x6d, 0x54, 0x92, 0x31, 0x57, 0xe0, 0x01, 0x97, 0x4c, 0xa8, 0x64, 0x33, 0x0e, 0x22, 0x23, 0x96, 0xec, 0xa8, 0x65, 0x53, 0x04, 0x22,
    0x43, 0x90, 0xec, 0xa8, 0x77, 0x53, 0x00, 0xef, 0x00, 0x86, 0x01, 0xdf, 0x01, 0x0d, 0x03, 0xbf, 0x02, 0x1b,
];

#[test]
fn what_chromium_sends_is_understood() {
    let (key, structure) = Dependency::parse(&CHROMIUM_KEY, None).unwrap();
    assert_eq!((key.frame_number, key.spatial, key.temporal, key.diffs()), (28, 0, 0, &[][..]));
    assert_eq!(key.highest, Layers { spatial: 2, temporal: 2 });
    assert!(key.first_in_frame && key.last_in_frame && key.picture(false).starts);
    assert!((0..9).all(|n| key.switches_to(n / 3, n % 3)), "a key picture is the beginning of every target");
    // The packets after it: the other layers of the picture, then the next picture.
    let read = |bytes: [u8; 3]| Dependency::parse(&bytes, structure.as_ref()).unwrap().0;
    for (bytes, spatial, temporal, diff) in
        [([0x85, 0x00, 0x1d], 1, 0, 1), ([0x8a, 0x00, 0x1e], 2, 0, 1), ([0xc3, 0x00, 0x1f], 0, 2, 3)]
    {
        let frame = read(bytes);
        assert_eq!((frame.spatial, frame.temporal, frame.diffs()), (spatial, temporal, &[diff][..]), "{bytes:02x?}");
        assert!(frame.first_in_frame && !frame.picture(false).starts);
        assert_eq!(frame.switches_to(2, 2), temporal == 0, "{bytes:02x?}");
        assert!(!frame.switches_to(0, 0), "{bytes:02x?}");
    }
    assert!(read([0x45, 0x00, 0x1d]).last_in_frame && !read([0x0a, 0x00, 0x1e]).last_in_frame);
}

#[test]
fn a_descriptor_that_is_cut_short_is_none() {
    for whole in [key(), CHROMIUM_KEY.to_vec()] {
        for cut in 0..whole.len() {
            assert_eq!(Dependency::parse(&whole[..cut], None), None, "{cut}");
        }
    }
}

#[test]
fn frame_numbers_are_shifted_in_place() {
    let mut bytes = key();
    renumber(&mut bytes, 65_236 + 7);
    assert_eq!(Dependency::parse(&bytes, None).unwrap().0.frame_number, 7);
    renumber(&mut [1, 2], 3);
}

#[test]
fn tables_are_bounded() {
    // Seventy templates of the same layer.
    let mut bits = BitWriter::default();
    bits.put(1, 1).put(1, 1).put(0, 6).put(0, 16).put(0b10000, 5).put(0, 6).put(0, 5);
    bits.put(0, 32).put(0, 32).put(0, 32).put(0, 32).put(0, 32).put(3, 2).put(0, 32);
    assert_eq!(Dependency::parse(&bits.bytes(), None), None);
    // Nine references.
    let (_, structure) = Dependency::parse(&key(), None).unwrap();
    for (count, expected) in [(8, true), (9, false)] {
        let mut bits = BitWriter::default();
        bits.put(0b11, 2).put(6, 6).put(9, 16).put(0b00010, 5);
        for _ in 0..count {
            bits.put(1, 2).put(0, 4);
        }
        bits.put(0, 2);
        assert_eq!(Dependency::parse(&bits.bytes(), structure.as_ref()).is_some(), expected, "{count}");
    }
}

proptest! {
    #[test]
    fn hostile_descriptors_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..64),
        at in 0usize..100,
        byte: u8,
    ) {
        let mut damaged = CHROMIUM_KEY.to_vec();
        let at = at % damaged.len();
        damaged[at] = byte;
        let mut known = None;
        for mut bytes in [noise, damaged, key()] {
            if let Some((dependency, structure)) = Dependency::parse(&bytes, known.as_ref()) {
                let picture = dependency.picture(true);
                prop_assert!(dependency.diffs().len() <= MAX_DIFFS);
                prop_assert!(!picture.starts || dependency.has_structure);
                known = structure.or(known);
            }
            renumber(&mut bytes, 9);
        }
    }
}
