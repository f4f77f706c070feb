//! The id under which clients know a room.

use std::{fmt, str::FromStr};

/// `<namespace>.<name>` of a [`CallRoom`](crate::CallRoom), as it stands in URLs and in tokens' `roomId`.
///
/// A namespace is a DNS label and holds no dot, so the first dot separates the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    /// Namespace of the room.
    pub namespace: String,
    /// Name of the room; may itself contain dots.
    pub name: String,
}

impl CallId {
    /// The id of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// The text is not `<namespace>.<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCallId;

impl fmt::Display for InvalidCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call id is <namespace>.<name> of a CallRoom, in lower-case letters, digits, '-' and '.'")
    }
}

impl std::error::Error for InvalidCallId {}

impl FromStr for CallId {
    type Err = InvalidCallId;

    fn from_str(text: &str) -> Result<Self, InvalidCallId> {
        let (namespace, name) = text.split_once('.').ok_or(InvalidCallId)?;
        let allowed = |part: &str| {
            (1..=253).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        };
        if namespace.len() > 63 || !allowed(namespace) || !allowed(name) {
            return Err(InvalidCallId);
        }
        Ok(Self::new(namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dot_separates_namespace_and_name() {
        let id: CallId = "default.team.standup".parse().unwrap();
        assert_eq!(id, CallId::new("default", "team.standup"));
        assert_eq!(id.to_string(), "default.team.standup");
    }

    #[test]
    fn what_no_object_can_be_called_is_refused() {
        for text in ["", "demo", ".demo", "default.", "Default.demo", "a/b.c", "default.de mo"] {
            assert_eq!(text.parse::<CallId>(), Err(InvalidCallId), "{text:?}");
        }
    }
}
