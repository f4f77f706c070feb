//! What a token says.

use serde::{Deserialize, Serialize};

use super::AuthError;
use crate::rooms::{Access, Grants, Role, RoomKey};

/// `iss` of every token.
pub const ISSUER: &str = "callplane";

/// `aud` of every token for media nodes.
pub const AUDIENCE: &str = "callplane-media";

/// Clock skew that is forgiven, in seconds.
const LEEWAY: i64 = 5;

/// Longest user id, name and UID.
const MAX_USER: usize = 128;
const MAX_NAME: usize = 256;
const MAX_UID: usize = 128;

/// The claims of a join token, beside `iss` and `aud`. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// User id, unique in the room.
    pub sub: String,
    /// Call id.
    pub room_id: String,
    /// UID of the `CallRoom`. Epochs count from 1 in each room, so without it a token of an earlier room of the same
    /// name would be good, or worse, ahead. Needed on Kubernetes; standalone rooms have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_uid: Option<String>,
    /// Route epoch.
    pub epoch: i64,
    /// Part in the call.
    pub role: Role,
    /// `publish`, `subscribe`; both where the claim is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ends.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// When it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
}

impl Claims {
    /// Whether the token is good at `now`, and no longer than `max_lifetime` seconds from end to end.
    pub(super) fn check_time(&self, now: i64, max_lifetime: i64) -> Result<(), AuthError> {
        if self.exp.saturating_add(LEEWAY) <= now {
            return Err(AuthError::Expired);
        }
        if self.iat.max(self.nbf.unwrap_or(self.iat)) > now.saturating_add(LEEWAY) {
            return Err(AuthError::NotYet);
        }
        if self.exp.saturating_sub(self.iat) > max_lifetime {
            return Err(AuthError::Lifetime { max: max_lifetime });
        }
        Ok(())
    }

    /// What the token gives access to. Standalone rooms have no namespace and no UID.
    ///
    /// # Errors
    /// [`AuthError::Claim`] for a room or user that cannot be, or without the UID that a `CallRoom` has.
    pub fn access(self, standalone: bool) -> Result<Access, AuthError> {
        let room = match standalone {
            true => RoomKey::of_standalone(&self.room_id),
            false => RoomKey::of_call_room(&self.room_id),
        };
        let text = |text: &str, longest: usize| {
            !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
        };
        if !text(&self.sub, MAX_USER) {
            return Err(AuthError::Claim("sub"));
        }
        if self.name.as_deref().is_some_and(|name| !text(name, MAX_NAME)) {
            return Err(AuthError::Claim("name"));
        }
        let room_uid = match (standalone, self.room_uid) {
            (true, _) => None,
            (false, Some(uid)) if text(&uid, MAX_UID) => Some(uid),
            (false, _) => return Err(AuthError::Claim("roomUid")),
        };
        let granted = |what: &str| self.grants.as_ref().is_none_or(|grants| grants.iter().any(|grant| grant == what));
        Ok(Access {
            room: room.map_err(|_| AuthError::Claim("roomId"))?,
            room_uid,
            issued_at: self.iat,
            epoch: self.epoch,
            role: self.role,
            grants: Grants { publish: granted("publish"), subscribe: granted("subscribe") },
            user: self.sub,
            name: self.name,
        })
    }
}
