use super::*;
use proptest::prelude::*;

fn layers(spatial: u8, temporal: u8) -> Layers {
    Layers { spatial, temporal }
}

fn packet(picture: &Picture, encoding: usize, timestamp: u32) -> Packet<'_> {
    Packet { encoding, picture, timestamp, newest: true }
}

fn frame(spatial: u8, temporal: u8) -> Picture {
    Picture { spatial, temporal, begins: true, ends: true, ..Picture::default() }
}

const KEY: Picture = Picture { starts: true, begins: true, ends: true, ..const_default() };

const fn const_default() -> Picture {
    Picture {
        spatial: 0,
        temporal: 0,
        starts: false,
        begins: false,
        ends: false,
        enters_temporal: false,
        opens_temporal: false,
        enters_spatial: false,
        numbers: crate::core::codec::Numbers::NONE,
        dependency: None,
    }
}

#[test]
fn the_target_is_the_least_of_wanted_and_permitted() {
    let mut selector = Selector::new(3);
    assert_eq!(selector.target(), Some(Layers::ALL));
    for (preferred, allowed, target) in [
        (layers(2, 1), Some(Layers::ALL), Some(layers(2, 1))),
        (layers(2, 1), Some(layers(1, 2)), Some(layers(1, 2))),
        (layers(1, 1), Some(layers(2, 0)), Some(layers(1, 1))),
        (layers(1, 1), Some(layers(1, 0)), Some(layers(1, 0))),
        (layers(1, 1), None, None),
    ] {
        selector.prefer(preferred);
        selector.allow(allowed);
        assert_eq!((selector.preferred(), selector.allowed()), (preferred, allowed));
        assert_eq!(selector.target(), target, "{preferred:?} {allowed:?}");
    }
}

#[test]
fn nothing_begins_before_a_key_frame_of_the_encoding_that_is_wanted() {
    let mut selector = Selector::new(2);
    let aim = |selector: &Selector, best| selector.aim(best);
    let to = aim(&selector, 1);
    assert_eq!(selector.admit(&packet(&frame(0, 0), 1, 0), to), Verdict::Await);
    assert_eq!(selector.admit(&packet(&KEY, 0, 0), to), Verdict::Other);
    assert_eq!(selector.admit(&packet(&KEY, 1, 3000), to), Verdict::Begin);
    assert_eq!(selector.current(), Some(layers(1, 255)));
    // To the lower one: the higher one goes on until the lower one has a key frame.
    selector.prefer(layers(0, 0));
    let to = aim(&selector, 0);
    assert_eq!(selector.admit(&packet(&frame(0, 0), 0, 6000), to), Verdict::Other);
    assert_eq!(selector.admit(&packet(&frame(0, 2), 1, 6000), to), Verdict::Forward);
    assert_eq!(selector.admit(&packet(&KEY, 0, 9000), to), Verdict::Begin);
    assert_eq!(selector.current(), Some(layers(0, 0)));
    selector.allow(None);
    assert_eq!(selector.admit(&packet(&KEY, 0, 12_000), selector.aim(0)), Verdict::Held);
    assert_eq!(selector.current(), None);
}

#[test]
fn of_an_encoding_below_the_wanted_one_all_temporal_layers_are() {
    let mut selector = Selector::new(3);
    selector.prefer(layers(2, 0));
    assert_eq!(selector.aim(1).unwrap().limits.temporal, u8::MAX);
    assert_eq!(selector.aim(2).unwrap().limits.temporal, 0);
}

#[test]
fn limits_fall_with_a_picture_and_not_within_it() {
    let mut selector = Selector::new(1);
    selector.admit(&packet(&KEY, 0, 0), selector.aim(0));
    selector.prefer(layers(0, 0));
    let to = selector.aim(0);
    assert_eq!(selector.admit(&packet(&frame(1, 0), 0, 0), to), Verdict::Forward, "the picture has begun");
    assert_eq!(selector.admit(&packet(&frame(0, 0), 0, 3000), to), Verdict::Turn);
    assert_eq!(selector.admit(&packet(&frame(1, 0), 0, 3000), to), Verdict::Skip);
    assert_eq!(selector.admit(&Packet { newest: false, ..packet(&frame(1, 0), 0, 0) }, to), Verdict::Late);
}

#[test]
fn limits_rise_only_where_the_codec_says() {
    let mut selector = Selector::new(1);
    selector.prefer(layers(0, 0));
    selector.admit(&packet(&KEY, 0, 0), selector.aim(0));
    selector.prefer(layers(2, 2));
    let to = selector.aim(0);
    let sync = |temporal| Picture { enters_temporal: true, ..frame(0, temporal) };
    let mut at = 0;
    let mut admit = |selector: &mut Selector, picture: &Picture| {
        at += 3000;
        selector.admit(&packet(picture, 0, at), to)
    };
    assert_eq!(admit(&mut selector, &frame(0, 1)), Verdict::Skip);
    assert_eq!(admit(&mut selector, &sync(2)), Verdict::Skip, "the layer between is missing");
    assert_eq!(admit(&mut selector, &sync(1)), Verdict::Turn);
    assert_eq!(admit(&mut selector, &sync(2)), Verdict::Turn);
    assert_eq!(selector.current(), Some(layers(0, 2)));
    // A spatial layer that needs nothing but the picture that it is in.
    let enters = |spatial| Picture { enters_spatial: true, ..frame(spatial, 0) };
    assert_eq!(admit(&mut selector, &enters(2)), Verdict::Skip);
    assert_eq!(admit(&mut selector, &enters(1)), Verdict::Turn);
    assert_eq!(admit(&mut selector, &enters(2)), Verdict::Turn);
    assert_eq!(selector.current(), Some(layers(2, 2)));
}

#[test]
fn an_opening_picture_lets_all_later_temporal_layers_in() {
    let mut selector = Selector::new(1);
    selector.prefer(layers(0, 0));
    selector.admit(&packet(&KEY, 0, 0), selector.aim(0));
    selector.prefer(layers(0, 2));
    let to = selector.aim(0);
    let opens = |temporal| Picture { opens_temporal: true, ..frame(0, temporal) };
    assert_eq!(selector.admit(&packet(&opens(1), 0, 3000), to), Verdict::Skip, "needs its own layer still");
    assert_eq!(selector.admit(&packet(&opens(0), 0, 6000), to), Verdict::Turn);
    assert_eq!(selector.admit(&packet(&frame(0, 2), 0, 9000), to), Verdict::Forward);
}

proptest! {
    #[test]
    fn the_last_frames_are_remembered(steps in prop::collection::vec(0u16..200, 1..40), first: u16) {
        let (mut frames, mut newest, mut added) = (Frames::default(), first, vec![]);
        for step in steps {
            newest = newest.wrapping_add(step);
            frames.add(newest);
            added.push(newest);
            for back in 0..128u16 {
                let number = newest.wrapping_sub(back);
                prop_assert_eq!(frames.has(number), added.contains(&number), "{} back", back);
            }
        }
    }

    /// Whatever comes, what goes out is within the limits, and those are within the target once they have
    /// fallen.
    #[test]
    fn nothing_above_the_limits_goes_out(
        pictures in prop::collection::vec((0u8..3, 0u8..3, 0u8..16, 0u8..3, 0u8..3), 1..200),
    ) {
        let mut selector = Selector::new(1);
        for (n, (spatial, temporal, flags, s, t)) in pictures.into_iter().enumerate() {
            if flags & 8 != 0 {
                selector.prefer(layers(s, t));
            }
            let bit = |mask| flags & mask != 0;
            let picture = Picture {
                starts: bit(1) && spatial == 0 && temporal == 0,
                enters_temporal: bit(2),
                opens_temporal: bit(4),
                ..frame(spatial, temporal)
            };
            let verdict = selector.admit(&packet(&picture, 0, n as u32), selector.aim(0));
            if matches!(verdict, Verdict::Forward | Verdict::Turn | Verdict::Begin) {
                prop_assert!(selector.limits().hold(spatial, temporal));
            }
            if let Some(current) = selector.current() {
                prop_assert_eq!(current.within(selector.target().unwrap()), current);
            }
        }
    }
}
