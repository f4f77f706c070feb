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

#[test]
fn a_descriptor_that_is_cut_short_is_none() {
    let whole = key();
    for cut in 0..whole.len() {
        assert_eq!(Dependency::parse(&whole[..cut], None), None, "{cut}");
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
        at in 0usize..40,
        byte: u8,
    ) {
        let mut damaged = key();
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
