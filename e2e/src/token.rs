//! Join tokens, signed with the installed key as the gateway would.

use anyhow::{Context, Result};
use callplane_crds::{
    CallRoom,
    names::{JOIN_KEYS_SECRET, TOKEN_AUDIENCE, TOKEN_ISSUER},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::{clock, cluster::Cluster};

/// Life of the tokens, in seconds.
const LIFETIME: i64 = 300;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    room_id: String,
    room_uid: &'a str,
    epoch: i64,
    role: &'a str,
    grants: &'a [&'a str],
    iat: i64,
    exp: i64,
}

/// Signs join tokens.
#[derive(Clone)]
pub struct Tokens {
    key: EncodingKey,
    header: Header,
}

impl Tokens {
    /// Reads the installed key.
    ///
    /// # Errors
    /// When the Secret is not there or holds no key.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let secret = cluster.secrets().get(JOIN_KEYS_SECRET).await.context("the Secret with the join keys")?;
        let data = secret.data.unwrap_or_default();
        let field = |name: &str| data.get(name).with_context(|| format!("{JOIN_KEYS_SECRET} has no {name}"));
        let key = EncodingKey::from_ec_pem(&field("private.pem")?.0).context("private.pem")?;
        let kid = String::from_utf8(field("kid")?.0.clone())?.trim().to_owned();
        Ok(Self { key, header: Header { kid: Some(kid), ..Header::new(Algorithm::ES256) } })
    }

    /// A token that lets `user` publish and subscribe in `room` while it is in `epoch`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn mint(&self, room: &CallRoom, epoch: i64, user: &str) -> Result<String> {
        let iat = clock::wall().as_second();
        let claims = Claims {
            iss: TOKEN_ISSUER,
            aud: TOKEN_AUDIENCE,
            sub: user,
            room_id: room.call_id().to_string(),
            room_uid: room.metadata.uid.as_deref().context("a stored CallRoom has a UID")?,
            epoch,
            role: "participant",
            grants: &["publish", "subscribe"],
            iat,
            exp: iat + LIFETIME,
        };
        Ok(jsonwebtoken::encode(&self.header, &claims, &self.key)?)
    }
}
