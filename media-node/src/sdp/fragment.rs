//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): what a client says about ICE after its offer.

use rtc::sdp::description::common::Attribute;

use super::{
    Error,
    answer::Attributes,
    grammar::{fragment, is_ice, value, values},
    malformed,
    offer::MAX_CANDIDATES,
};
use crate::ortc::{IceCandidate, IceParameters};

/// A fragment. Candidates are checked and let go: a lite agent sends nowhere but where checks come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The client's username fragment; another one than before is an ICE restart.
    pub ice_ufrag: Option<String>,
    /// How many candidates there were.
    pub candidates: usize,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parsed = fragment(text)?;
        let sections = parsed.media_descriptions.iter().map(|media| media.attributes.as_slice());
        let levels: Vec<&[Attribute]> = std::iter::once(parsed.attributes.as_slice()).chain(sections).collect();
        let mut read = Self::default();
        for attributes in levels {
            if let Some(ufrag) = value(attributes, "ice-ufrag") {
                let has_password = value(attributes, "ice-pwd").is_some_and(|password| is_ice(password, 22));
                if !is_ice(ufrag, 4) || !has_password {
                    return malformed("a=ice-ufrag and a=ice-pwd must be 4 and 22 to 256 ICE characters");
                }
                if read.ice_ufrag.as_deref().is_some_and(|earlier| earlier != ufrag) {
                    return malformed("the sections of a bundle have one a=ice-ufrag");
                }
                read.ice_ufrag = Some(ufrag.to_owned());
            }
            for candidate in values(attributes, "candidate") {
                if !is_candidate(candidate) {
                    return malformed(format!("a=candidate:{candidate} is not a candidate (RFC 8839 §5.1)"));
                }
                read.candidates += 1;
            }
        }
        if read.candidates > MAX_CANDIDATES {
            return malformed(format!("the fragment has more than {MAX_CANDIDATES} candidates"));
        }
        Ok(read)
    }

    /// What the node answers to an ICE restart: its new credentials, and the candidates that stay.
    pub fn answer(ice: &IceParameters, candidates: &[IceCandidate]) -> String {
        let mut lines = Attributes::default();
        lines.flag("ice-lite");
        lines.value("ice-options", "trickle");
        lines.ice(ice, candidates);
        lines.0.iter().map(|attribute| format!("a={attribute}\r\n")).collect()
    }
}

/// `foundation component transport priority address port typ type …`. The address may be a name (mDNS).
fn is_candidate(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, component, _, priority, _, port, "typ", _, ..] = words[..] else { return false };
    component.parse::<u16>().is_ok() && priority.parse::<u32>().is_ok() && port.parse::<u16>().is_ok()
}
