//! Which room.

use std::fmt;

/// Longest name of a room outside Kubernetes.
const MAX_NAME: usize = 128;

/// A room by namespace and name, as in Kubernetes. Standalone rooms have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    /// Namespace of the `CallRoom`; empty for a standalone room.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The text names no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoomKey {
    /// Not `<namespace>.<name>`.
    #[error("a call id is <namespace>.<name> of a CallRoom")]
    Kubernetes,
    /// Too long, empty or with other characters.
    #[error("a call id is 1 to 128 of the characters A-Z, a-z, 0-9, '.', '_' and '-'")]
    Standalone,
}

impl RoomKey {
    /// The room of a `CallRoom`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `<namespace>.<name>`. A namespace is a DNS label, so the first dot separates the two.
    ///
    /// # Errors
    /// [`InvalidRoomKey::Kubernetes`].
    pub fn of_call_room(text: &str) -> Result<Self, InvalidRoomKey> {
        let id: callplane_crds::CallId = text.parse().map_err(|_| InvalidRoomKey::Kubernetes)?;
        Ok(Self::new(id.namespace, id.name))
    }

    /// Reads the name of a standalone room.
    ///
    /// # Errors
    /// [`InvalidRoomKey::Standalone`].
    pub fn of_standalone(text: &str) -> Result<Self, InvalidRoomKey> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self::new("", text))
        } else {
            Err(InvalidRoomKey::Standalone)
        }
    }
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}.{}", self.namespace, self.name) }
    }
}
