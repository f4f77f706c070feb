//! `callplane-operator join-token`: a token for one person and one call, for trying things out.

use std::time::Duration;

use callplane_crds::{
    CallId, CallRoom,
    names::{TOKEN_AUDIENCE, TOKEN_ISSUER},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kube::{Api, Client};
use serde::Serialize;
use thiserror::Error;

use crate::keys::{self, JoinKey, KeysError};

/// Longest time that a join token is good for, and a consent token.
pub const LONGEST: Duration = Duration::from_secs(600);
/// Longest time that a share link is good for, in seconds: 30 days.
pub const LONGEST_LINK: u32 = 2_592_000;

/// Who is to be let into what.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Namespace and name of the room.
    pub room: CallId,
    /// User id.
    pub user: String,
    /// Name to show.
    pub name: Option<String>,
    /// `host`, `participant`, `guest` or `admin`.
    pub role: String,
    /// How long it is good for; at most [`LONGEST`].
    pub ttl: Duration,
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The keys are not usable.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The room could not be read.
    #[error("cannot read CallRoom {room}: {source}")]
    Room {
        /// Its id.
        room: CallId,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The room has no route.
    #[error("CallRoom {0} has no route: it is not ready, or it is over")]
    NoRoute(CallId),
    /// It could not be signed.
    #[error("cannot sign: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: &'a str,
    room_id: String,
    room_uid: &'a str,
    epoch: i64,
    role: &'a str,
    grants: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    iat: i64,
    exp: i64,
}

/// Makes a token for the present route of the room.
///
/// # Errors
/// See [`TokenError`].
pub async fn invite(
    client: Client,
    namespace: &str,
    invitation: &Invitation,
    now: Timestamp,
) -> Result<String, TokenError> {
    let key = keys::read(client.clone(), namespace).await?;
    let id = &invitation.room;
    let rooms: Api<CallRoom> = Api::namespaced(client, &id.namespace);
    let room =
        rooms.get(&id.name).await.map_err(|source| TokenError::Room { room: id.clone(), source: Box::new(source) })?;
    let uid = room.metadata.uid.unwrap_or_default();
    let route = room.status.and_then(|s| s.route).ok_or_else(|| TokenError::NoRoute(id.clone()))?;
    sign(&key, invitation, &uid, route.epoch, now)
}

/// Signs a token for `epoch` of the CallRoom with this UID.
///
/// # Errors
/// When the key cannot sign.
pub fn sign(
    key: &JoinKey,
    invitation: &Invitation,
    uid: &str,
    epoch: i64,
    now: Timestamp,
) -> Result<String, TokenError> {
    let iat = now.as_second();
    let claims = Claims {
        iss: TOKEN_ISSUER,
        aud: TOKEN_AUDIENCE,
        sub: &invitation.user,
        room_id: invitation.room.to_string(),
        room_uid: uid,
        epoch,
        role: &invitation.role,
        grants: ["publish", "subscribe"],
        name: invitation.name.as_deref(),
        iat,
        exp: iat + i64::try_from(invitation.ttl.min(LONGEST).as_secs()).unwrap_or(0),
    };
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::ES256) };
    Ok(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_pem(key.pem.as_bytes())?)?)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_token_is_verified_by_the_published_key_and_lives_ten_minutes_at_most() {
        let key = JoinKey::generate().unwrap();
        let invitation = Invitation {
            room: "team.standup".parse().unwrap(),
            user: "ann".into(),
            name: None,
            role: "host".into(),
            ttl: Duration::from_secs(86_400),
        };
        let now = Timestamp::from_second(4_000_000_000).unwrap();
        let token = sign(&key, &invitation, "u1", 3, now).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        let set: JwkSet = serde_json::from_str(&key.jwks()).unwrap();
        let jwk = set.find(&header.kid.unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["callplane-media"]);
        validation.set_issuer(&["callplane"]);
        let claims =
            jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).unwrap().claims;
        assert_eq!(
            (&claims["roomId"], &claims["roomUid"], &claims["epoch"], &claims["sub"]),
            (&"team.standup".into(), &"u1".into(), &3.into(), &"ann".into())
        );
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    }
}
