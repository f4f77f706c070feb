//! Ids of share links, and which of them were revoked.
//!
//! A link is a signed token and costs the API server nothing. Only a revocation is written, to an annotation of
//! the room, and it is dropped from there when the link would have ended anyway: the id says when.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Revoked links that a room remembers at most.
pub const MAX_REVOKED: usize = 200;

/// Id of a share link: `<end in seconds since 1970>-<16 hexadecimal digits>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkId {
    expires: i64,
    chance: String,
}

impl LinkId {
    /// A new one.
    pub fn new(expires: i64, chance: [u8; 8]) -> Self {
        Self { expires, chance: format!("{:016x}", u64::from_be_bytes(chance)) }
    }

    /// When the link ends, in seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.expires, self.chance)
    }
}

impl FromStr for LinkId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (expires, chance) = text.split_once('-').ok_or(())?;
        let is_hex = chance.len() == 16 && chance.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = (1..=12).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
        match is_hex && is_number {
            true => Ok(Self { expires: expires.parse().map_err(|_| ())?, chance: chance.to_owned() }),
            false => Err(()),
        }
    }
}

impl Serialize for LinkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|()| D::Error::custom("no id of a share link"))
    }
}

/// The links that `annotation` says were revoked, without those that have ended. What is no id is dropped.
pub fn revoked(annotation: &str, now: i64) -> Vec<LinkId> {
    annotation.split(',').filter_map(|id| id.parse().ok()).filter(|id: &LinkId| id.expires > now).collect()
}

/// The annotation with one more, or `None` when there are as many as can be. Revoking again changes nothing.
pub fn revoke(annotation: &str, link: &LinkId, now: i64) -> Option<String> {
    let mut all = revoked(annotation, now);
    if link.expires > now && !all.contains(link) {
        all.push(link.clone());
    }
    let text: Vec<_> = all.iter().map(LinkId::to_string).collect();
    (all.len() <= MAX_REVOKED).then(|| text.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_it_was() {
        let id = LinkId::new(1_800_000_000, [0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(id.to_string(), "1800000000-00010203040506ff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "-00010203040506ff", "1-0", "1-00010203040506FF", "+1-00010203040506ff", "1-00010203040506f,"]
        {
            assert!(wrong.parse::<LinkId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn revocations_are_remembered_until_the_link_ends_anyway_and_are_bounded() {
        let id = |expires: i64, n: u64| LinkId::new(expires, n.to_be_bytes());
        let one = revoke("", &id(100, 1), 50).unwrap();
        let two = revoke(&one, &id(200, 2), 50).unwrap();
        assert_eq!(revoke(&two, &id(200, 2), 50), Some(two.clone()), "twice is once");
        assert_eq!(revoked(&two, 150), [id(200, 2)]);
        assert_eq!(revoke(&two, &id(100, 3), 150), Some(id(200, 2).to_string()), "what has ended need not be revoked");
        let mut full = String::new();
        for n in 0..MAX_REVOKED as u64 {
            full = revoke(&full, &id(100, n), 50).unwrap();
        }
        assert_eq!(revoke(&full, &id(100, 9999), 50), None);
        assert!(revoke(&full, &id(300, 9999), 100).is_some(), "room again when the others have ended");
    }
}
