//! The shared secrets that coturn believes, as one Kubernetes Secret keeps them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};

/// Key of the secret that credentials are minted with.
pub const SECRET: &str = "secret";
/// Key of the URLs: one server a line, its URLs separated by spaces.
pub const URLS: &str = "urls";
const SINCE: &str = "since";
const NEXT: &str = "next";
const PREVIOUS: &str = "previous";
const PREVIOUS_UNTIL: &str = "previous-until";
/// Annotation that asks for a rotation now, whatever it says. It goes when the rotation begins.
pub const ROTATE: &str = "callplane.io/rotate";

/// What the Secret says.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// What credentials are minted with.
    pub current: String,
    /// Since when.
    pub since: Timestamp,
    /// What is to become current as soon as coturn believes it.
    pub next: Option<String>,
    /// What was current before, and until when coturn is to believe it.
    pub previous: Option<(String, Timestamp)>,
    /// The servers: each one's URLs, separated by spaces.
    pub urls: Vec<String>,
    /// Somebody asked for a rotation.
    pub asked: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("since", &self.since)
            .field("next", &self.next.is_some())
            .field("previous_until", &self.previous.as_ref().map(|(_, until)| until))
            .field("urls", &self.urls)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// All that coturn is to believe.
    pub fn valid(&self) -> BTreeSet<String> {
        let previous = self.previous.iter().map(|(secret, _)| secret);
        [&self.current].into_iter().chain(&self.next).chain(previous).cloned().collect()
    }

    /// What `secret` says; `None` when it makes no sense.
    pub fn read(secret: &Secret) -> Option<Self> {
        let text = |key: &str| {
            let value = secret.data.as_ref()?.get(key)?;
            Some(std::str::from_utf8(&value.0).ok()?.trim().to_owned())
        };
        let time = |key: &str| text(key)?.parse::<Timestamp>().ok();
        let usable = |key: &str| text(key).filter(|secret| is_usable(secret));
        let previous = match secret.data.as_ref().is_some_and(|data| data.contains_key(PREVIOUS)) {
            true => Some((usable(PREVIOUS)?, time(PREVIOUS_UNTIL)?)),
            false => None,
        };
        Some(Self {
            current: usable(SECRET)?,
            since: time(SINCE)?,
            next: usable(NEXT),
            previous,
            urls: text(URLS).unwrap_or_default().lines().map(str::to_owned).filter(|line| !line.is_empty()).collect(),
            asked: secret.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(ROTATE)),
        })
    }

    /// As data of a Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let previous = self.previous.iter();
        let previous =
            previous.flat_map(|(secret, until)| [(PREVIOUS, secret.clone()), (PREVIOUS_UNTIL, until.to_string())]);
        [(SECRET, self.current.clone()), (SINCE, self.since.to_string()), (URLS, self.urls.join("\n"))]
            .into_iter()
            .chain(self.next.iter().map(|next| (NEXT, next.clone())))
            .chain(previous)
            .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
            .collect()
    }
}

/// Whether `text` can be a shared secret: what coturn and Redis take without quoting, and nobody guesses.
pub fn is_usable(text: &str) -> bool {
    (16..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            current: "current-current-current".into(),
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            next: Some("next-next-next-next".into()),
            previous: Some(("previous-previous-previous".into(), "2026-01-01T01:00:00Z".parse().unwrap())),
            urls: vec!["turn:a:1 turn:a:2".into(), "turn:b".into()],
            asked: false,
        }
    }

    fn secret(keys: &Keys) -> Secret {
        Secret { data: Some(keys.data()), ..Secret::default() }
    }

    #[test]
    fn what_is_written_is_read() {
        let plain = Keys { next: None, previous: None, urls: vec![], ..keys() };
        for keys in [keys(), plain] {
            assert_eq!(Keys::read(&secret(&keys)), Some(keys));
        }
        let text = format!("{:?}", keys());
        assert!(!text.contains("-current") && !text.contains("-previous") && !text.contains("next-next"), "{text}");
    }

    #[test]
    fn what_makes_no_sense_is_not_taken_for_a_secret() {
        let without = |key: &str, value: Option<&str>| {
            let mut secret = secret(&keys());
            let data = secret.data.get_or_insert_default();
            match value {
                Some(value) => data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec())),
                None => data.remove(key),
            };
            Keys::read(&secret)
        };
        assert_eq!(Keys::read(&Secret::default()), None);
        for (key, value) in [
            (SECRET, None),
            (SECRET, Some("short")),
            (SECRET, Some("two words that are long enough")),
            (SINCE, None),
            (SINCE, Some("yesterday")),
            (PREVIOUS, Some("")),
            (PREVIOUS_UNTIL, None),
        ] {
            assert_eq!(without(key, value), None, "{key} {value:?}");
        }
        assert!(without(NEXT, Some("")).is_some_and(|keys| keys.next.is_none()), "a next one can be made again");
    }
}
