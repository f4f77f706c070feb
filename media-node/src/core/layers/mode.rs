//! Scalability modes (W3C webrtc-svc): `L3T3_KEY` and the like.

use std::str::FromStr;

use super::Layers;

/// How one encoding scales. Modes of several independent streams under one SSRC (`S2T1`) are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScalabilityMode {
    /// Spatial layers, 1 to 3.
    pub spatial: u8,
    /// Temporal layers, 1 to 3.
    pub temporal: u8,
    /// Spatial layers depend on each other in key pictures only.
    pub key: bool,
}

impl Default for ScalabilityMode {
    fn default() -> Self {
        Self { spatial: 1, temporal: 1, key: false }
    }
}

impl ScalabilityMode {
    /// The highest layers there can be.
    pub const fn highest(self) -> Layers {
        Layers { spatial: self.spatial - 1, temporal: self.temporal - 1 }
    }
}

/// The text is not a mode, or one that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is none of L1T1 to L3T3 with h, _KEY or _KEY_SHIFT after it where that is defined")]
pub struct UnknownMode;

impl FromStr for ScalabilityMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let &[b'L', spatial @ b'1'..=b'3', b'T', temporal @ b'1'..=b'3', ref rest @ ..] = text.as_bytes() else {
            return Err(UnknownMode);
        };
        let (spatial, temporal) = (spatial - b'0', temporal - b'0');
        let key = match rest {
            b"" => false,
            b"h" if spatial > 1 => false,
            b"_KEY" | b"_KEY_SHIFT" if spatial > 1 => true,
            _ => return Err(UnknownMode),
        };
        Ok(Self { spatial, temporal, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_nothing_else_is() {
        let mode = |spatial, temporal, key| Ok(ScalabilityMode { spatial, temporal, key });
        for (text, expected) in [
            ("L1T1", mode(1, 1, false)),
            ("L1T3", mode(1, 3, false)),
            ("L3T3", mode(3, 3, false)),
            ("L3T3_KEY", mode(3, 3, true)),
            ("L2T2_KEY_SHIFT", mode(2, 2, true)),
            ("L2T1h", mode(2, 1, false)),
            ("S2T1", Err(UnknownMode)),
            ("L1T3_KEY", Err(UnknownMode)),
            ("L4T1", Err(UnknownMode)),
            ("L0T1", Err(UnknownMode)),
            ("L3T3_key", Err(UnknownMode)),
            ("L3T3 ", Err(UnknownMode)),
            ("L10T3", Err(UnknownMode)),
            ("", Err(UnknownMode)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        assert_eq!("L3T2".parse::<ScalabilityMode>().unwrap().highest(), Layers { spatial: 2, temporal: 1 });
    }
}
