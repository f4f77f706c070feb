//! A large room in which everyone publishes, and the server chooses who is seen and heard. What it is told to choose
//! by, and what each participant has to get if it does: whatever else comes, or does not, is its fault.

use serde_json::{Value, json};

use super::{
    server::{Published, Shown},
    track::{LAYERS, Voice},
};

/// The settings of such a room, and who talks in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Pictures that each one gets: of those who spoke last, then of those who came first.
    pub last_n: usize,
    /// Voices that are heard.
    pub loudest: usize,
    /// Places among the publishers of those who talk all the time: as many as are heard, so that the choice is known.
    pub talkers: Vec<usize>,
}

impl Stage {
    /// `media` of a room, as `spec.media` of a `CallRoom` has it.
    pub fn media(&self) -> Value {
        json!({"lastN": self.last_n, "loudest": self.loudest})
    }

    /// How loud the publisher at this place is.
    pub fn voice(&self, publisher: usize) -> Voice {
        let turn = |turn| Voice::Turns { turn: turn as u8, of: self.talkers.len() as u8 };
        self.talkers.iter().position(|talker| *talker == publisher).map_or(Voice::Silent, turn)
    }

    /// Who of `people` publishers the one at this place sees, the one that it shows large first.
    pub fn seen(&self, viewer: usize, people: usize) -> Vec<usize> {
        let silent = (0..people).filter(|place| !self.talkers.contains(place));
        self.talkers.iter().copied().chain(silent).filter(|place| *place != viewer).take(self.last_n).collect()
    }

    /// What the participant at a place gets of a track that the one at `place` publishes: the highest encoding of who is
    /// shown large, the lowest of the others.
    pub fn shown(&self, viewer: usize, place: usize, people: usize, track: &Published) -> Shown {
        if !track.spec.is_video() {
            return if self.talkers.contains(&place) { Shown::Whole } else { Shown::Nothing };
        }
        match self.seen(viewer, people).iter().position(|seen| *seen == place) {
            Some(0) => Shown::Layer(LAYERS as u8 - 1),
            Some(_) => Shown::Layer(0),
            None => Shown::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::{
        track::{Content, Spec},
        video::Video,
    };

    fn stage() -> Stage {
        Stage { last_n: 4, loudest: 2, talkers: vec![5, 7] }
    }

    #[test]
    fn who_talks_is_seen_then_who_came_first_and_nobody_sees_himself() {
        let stage = stage();
        assert_eq!(stage.seen(9, 10), [5, 7, 0, 1]);
        assert_eq!(stage.seen(0, 10), [5, 7, 1, 2]);
        assert_eq!(stage.seen(5, 10), [7, 0, 1, 2]);
        assert_eq!([stage.voice(5), stage.voice(7)], [0, 1].map(|turn| Voice::Turns { turn, of: 2 }));
        assert_eq!(stage.voice(0), Voice::Silent);
        assert_eq!(stage.media(), json!({"lastN": 4, "loudest": 2}));
    }

    #[test]
    fn one_is_shown_large_and_the_others_small() {
        let (stage, video) = (stage(), Video::Camera { bitrate: 1e5, rate: 15.0 });
        let track = |content| Published {
            user: String::new(),
            id: String::new(),
            spec: Spec { number: 0, content },
            shown: Shown::Whole,
        };
        let (picture, sound) = (track(Content::Layers([video; LAYERS])), track(Content::Sound(Voice::Silent)));
        let shown = |viewer, track| [5, 7, 0, 1, 2].map(|place| stage.shown(viewer, place, 10, track));
        let (large, small) = (Shown::Layer(2), Shown::Layer(0));
        assert_eq!(shown(9, &picture), [large, small, small, small, Shown::Nothing]);
        assert_eq!(shown(5, &picture), [Shown::Nothing, large, small, small, small]);
        assert_eq!(shown(9, &sound), [Shown::Whole, Shown::Whole, Shown::Nothing, Shown::Nothing, Shown::Nothing]);
    }
}
