//! The private keys, as one Kubernetes Secret keeps them.

use callplane_crds::names::JOIN_KEYS_SECRET;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{JoinKey, KeysError};
use crate::secret::{self, text};

/// Key of the private key that signs.
pub const PRIVATE: &str = "private.pem";
/// Key of the private key that is to sign next. Somebody may put their own there.
pub const NEXT: &str = "next.pem";
/// Annotation that asks for a rotation now, whatever it says. It goes when the rotation begins.
pub const ROTATE: &str = "callplane.io/rotate";
const KID: &str = "kid";
const SINCE: &str = "since";
const NEXT_LISTED: &str = "next-listed";

/// What the Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What signs.
    pub current: JoinKey,
    /// Since when; `None` for a key that somebody else put there, or that an earlier version made.
    pub since: Option<Timestamp>,
    /// What is to sign next.
    pub next: Option<Next>,
    /// Somebody asked for a rotation.
    pub asked: bool,
}

/// A key that does not sign yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The key.
    pub key: JoinKey,
    /// Since when its public half has been seen in the list that media nodes and gateways mount.
    pub listed: Option<Timestamp>,
}

/// The key that signs.
pub(super) fn current(secret: &Secret) -> Result<JoinKey, KeysError> {
    text(secret, PRIVATE).ok_or(KeysError::Unusable).and_then(|pem| JoinKey::from_pem(&pem))
}

impl Keys {
    /// What `secret` says.
    ///
    /// # Errors
    /// [`KeysError::Unusable`], [`KeysError::UnusableNext`].
    pub fn read(secret: &Secret) -> Result<Self, KeysError> {
        let time = |key: &str| text(secret, key)?.trim().parse::<Timestamp>().ok();
        let current = current(secret)?;
        // A key that somebody put in the place of ours is not as old as ours was.
        let is_known = text(secret, KID).is_some_and(|kid| kid.trim() == current.kid);
        let next = match secret.data.as_ref().is_some_and(|data| data.contains_key(NEXT)) {
            true => {
                let pem = text(secret, NEXT).ok_or(KeysError::UnusableNext)?;
                let key = JoinKey::from_pem(&pem).map_err(|_| KeysError::UnusableNext)?;
                Some(Next { key, listed: time(NEXT_LISTED) })
            }
            false => None,
        };
        Ok(Self {
            since: time(SINCE).filter(|_| is_known),
            current,
            next,
            asked: secret.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(ROTATE)),
        })
    }

    /// The Secret that says so. What else `known` holds and bears stays: it may be somebody else's who made it.
    pub fn secret(&self, known: Option<&Secret>) -> Secret {
        let mut secret = known.cloned().unwrap_or_else(|| secret::named(JOIN_KEYS_SECRET, secret::Data::new()));
        secret.metadata.managed_fields = None;
        if !self.asked
            && let Some(annotations) = &mut secret.metadata.annotations
        {
            annotations.remove(ROTATE);
        }
        let next = self.next.as_ref();
        let data = secret.data.get_or_insert_default();
        for (key, value) in [
            (PRIVATE, Some(self.current.pem.clone())),
            (KID, Some(self.current.kid.clone())),
            (SINCE, self.since.map(|since| since.to_string())),
            (NEXT, next.map(|next| next.key.pem.clone())),
            (NEXT_LISTED, next.and_then(|next| next.listed).map(|listed| listed.to_string())),
        ] {
            match value {
                Some(value) => data.insert(key.to_owned(), ByteString(value.into_bytes())),
                None => data.remove(key),
            };
        }
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        Keys {
            current: JoinKey::generate().unwrap(),
            since: Some(time("2026-01-01T00:00:00Z")),
            next: Some(Next { key: JoinKey::generate().unwrap(), listed: Some(time("2026-01-31T00:00:00Z")) }),
            asked: false,
        }
    }

    fn with(secret: &Secret, key: &str, value: Option<&str>) -> Secret {
        let mut secret = secret.clone();
        let data = secret.data.get_or_insert_default();
        match value {
            Some(value) => data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec())),
            None => data.remove(key),
        };
        secret
    }

    #[test]
    fn what_is_written_is_read() {
        let whole = keys();
        let unlisted = Keys { next: Some(Next { listed: None, ..whole.next.clone().unwrap() }), ..whole.clone() };
        let alone = Keys { next: None, ..whole.clone() };
        for keys in [&whole, &unlisted, &alone] {
            assert_eq!(Keys::read(&keys.secret(None)).unwrap(), *keys);
            // In the place of any other.
            assert_eq!(Keys::read(&keys.secret(Some(&whole.secret(None)))).unwrap(), *keys);
        }
        assert!(!format!("{whole:?}").contains("PRIVATE"), "keys must not get into logs");
    }

    #[test]
    fn what_others_put_there_stays_and_a_request_is_answered_once() {
        let mut theirs = with(&keys().secret(None), "note", Some("by hand"));
        theirs.metadata.labels = Some([("theirs".to_owned(), "yes".to_owned())].into());
        theirs.metadata.annotations = Some([ROTATE, "note"].map(|key| (key.to_owned(), "now".to_owned())).into());
        let asked = Keys::read(&theirs).unwrap();
        assert!(asked.asked);
        assert!(Keys::read(&asked.secret(Some(&theirs))).unwrap().asked);
        let begun = Keys { asked: false, ..asked }.secret(Some(&theirs));
        assert_eq!(begun.metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["note"]);
        assert_eq!(
            (&begun.metadata.labels, text(&begun, "note").as_deref()),
            (&theirs.metadata.labels, Some("by hand"))
        );
    }

    #[test]
    fn a_key_of_somebody_elses_has_no_age() {
        let known = keys().secret(None);
        let earlier = with(&known, SINCE, None);
        let other = JoinKey::generate().unwrap();
        let patched = with(&known, PRIVATE, Some(&other.pem));
        let bare = with(&Secret::default(), PRIVATE, Some(&other.pem));
        for (secret, kid) in [(earlier, keys_kid(&known)), (patched, other.kid.clone()), (bare, other.kid)] {
            let read = Keys::read(&secret).unwrap();
            assert_eq!((read.current.kid, read.since), (kid, None));
        }
    }

    fn keys_kid(secret: &Secret) -> String {
        text(secret, KID).unwrap()
    }

    #[test]
    fn what_is_no_key_is_told_and_by_its_name() {
        let known = keys().secret(None);
        for wrong in [None, Some("a key")] {
            assert!(matches!(Keys::read(&with(&known, PRIVATE, wrong)), Err(KeysError::Unusable)), "{wrong:?}");
        }
        assert!(matches!(Keys::read(&with(&known, NEXT, Some(""))), Err(KeysError::UnusableNext)));
        let garbled = Keys::read(&with(&known, NEXT_LISTED, Some("soon"))).unwrap();
        assert_eq!(garbled.next.unwrap().listed, None, "its time is counted again");
    }
}
