//! What tokens say.

use callplane_crds::{CallId, names::TOKEN_ISSUER};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LinkId;

/// `aud` of a share link's token: a media node takes none of them for a join token.
pub const LINK_AUDIENCE: &str = "callplane-link";

/// `aud` of a consent token.
pub const CONSENT_AUDIENCE: &str = "callplane-consent";

/// Part in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May end and lock the call, remove others and make share links.
    Host,
    /// Takes part.
    Participant,
    /// Takes part, from outside.
    Guest,
}

impl Role {
    /// As a join token says it: an `admin` may all that a host may.
    pub fn of_claim(role: &str) -> Self {
        match role {
            "host" | "admin" => Self::Host,
            "guest" => Self::Guest,
            _ => Self::Participant,
        }
    }

    /// As it stands in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Participant => "participant",
            Self::Guest => "guest",
        }
    }
}

/// What is read of a join token.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinClaims {
    /// User id.
    pub sub: String,
    /// Call id.
    pub room_id: String,
    /// Epoch of the route.
    pub epoch: i64,
    /// `host`, `participant`, `guest` or `admin`.
    pub role: String,
    /// `metadata.uid` of the room: the token is not for a later room of the same name.
    #[serde(default)]
    pub room_uid: String,
    /// Name to show.
    #[serde(default)]
    pub name: Option<String>,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
}

/// What a share link's token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkClaims {
    iss: String,
    aud: String,
    /// Call id.
    pub room_id: String,
    /// `metadata.uid` of the room: the link is not for a later room of the same name.
    pub room_uid: String,
    /// What its guests are.
    pub role: Role,
    /// Id by which it is revoked.
    pub jti: LinkId,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
}

impl LinkClaims {
    /// Of a link to `room` that ends when its id says.
    pub fn new(room: &CallId, room_uid: String, role: Role, id: LinkId, now: i64) -> Self {
        let (iss, aud) = (TOKEN_ISSUER.to_owned(), LINK_AUDIENCE.to_owned());
        Self { iss, aud, room_id: room.to_string(), room_uid, role, iat: now, exp: id.expires(), jti: id }
    }
}

/// What a consent token says: somebody consented, and that was written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsentClaims {
    /// `callplane`.
    pub iss: String,
    /// [`CONSENT_AUDIENCE`].
    pub aud: String,
    /// User id.
    pub sub: String,
    /// Call id.
    pub room_id: String,
    /// `metadata.uid` of the room.
    pub room_uid: String,
    /// What was asked for.
    pub consent_type: String,
    /// Version of the text that was shown.
    pub version: String,
    /// The share link that they came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkId>,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
}
