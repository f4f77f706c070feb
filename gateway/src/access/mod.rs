//! Who asks, and what they may.

mod api_keys;
mod claims;
mod demand;
mod links;
mod oidc;
mod passwords;
mod signer;

use axum::http::{HeaderMap, header};

pub use api_keys::ApiKeys;
pub use claims::{CONSENT_AUDIENCE, ConsentClaims, JoinClaims, LINK_AUDIENCE, LinkClaims, Role};
pub use demand::{Demand, InvalidDemand};
pub use links::{LinkId, MAX_REVOKED, revoke, revoked};
pub use oidc::{Issuer, Oidc, OidcError};
pub use passwords::{Password, Passwords};
pub use signer::Signer;

use crate::{Code, Gateway, Problem};
use callplane_crds::{CallId, CallRoom, names::TOKEN_AUDIENCE};

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Caller {
    /// A backend, known by the name of its API key, or by the subject of its issuer's token.
    Backend(String),
    /// Somebody with a join token.
    Member(JoinClaims),
}

impl Caller {
    /// Who bears the credentials of `headers`. Counts the request for them.
    ///
    /// # Errors
    /// [`Code::CredentialsMissing`], [`Code::CredentialsInvalid`], [`Code::CredentialsExpired`], [`Code::RateLimited`],
    /// [`Code::InsufficientScope`], [`Code::IssuerUnavailable`].
    pub fn of(gateway: &Gateway, headers: &HeaderMap) -> Result<Self, Problem> {
        let bearer = bearer(headers).ok_or_else(|| {
            Problem::new(Code::CredentialsMissing, "this needs an API key or a join token as bearer token")
        })?;
        // Three parts are a JWT; an API key of three parts would never be found.
        let caller = if let Some(oidc) = gateway.oidc.as_ref().filter(|oidc| oidc.is_of(bearer)) {
            Self::Backend(oidc.verify(bearer, gateway.clock.now().wall)?)
        } else if bearer.bytes().filter(|b| *b == b'.').count() == 2 {
            let claims: JoinClaims = gateway.signer.verify(bearer, TOKEN_AUDIENCE, gateway.clock.now().wall)?;
            Self::Member(claims)
        } else {
            let name = gateway.api_keys.holder(bearer);
            Self::Backend(name.ok_or_else(|| Problem::new(Code::CredentialsInvalid, "this API key is not known"))?)
        };
        match &caller {
            Self::Backend(name) => gateway.limits.caller(&("api key", name))?,
            Self::Member(claims) => gateway.limits.caller(&(&claims.room_id, &claims.sub))?,
        }
        Ok(caller)
    }

    /// What a request with a bad body is refused with, where credentials may be missing: who has wrong ones, or none, learns
    /// that first.
    pub fn refusal(gateway: &Gateway, headers: &HeaderMap, of_body: Problem) -> Problem {
        Self::of(gateway, headers).err().unwrap_or(of_body)
    }

    /// The name of the backend that asks.
    ///
    /// # Errors
    /// [`Code::NotPermitted`] for others.
    pub fn backend(self) -> Result<String, Problem> {
        match self {
            Self::Backend(name) => Ok(name),
            Self::Member(_) => Err(Problem::new(Code::NotPermitted, "this needs an API key")),
        }
    }

    /// Their user id, if they bear a join token.
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::Member(claims) => Some(&claims.sub),
            Self::Backend(_) => None,
        }
    }

    /// Whether they may see `room`.
    ///
    /// # Errors
    /// [`Code::WrongRoom`].
    pub fn may_see(&self, room: &CallId) -> Result<(), Problem> {
        match self {
            Self::Member(claims) if claims.room_id != room.to_string() => {
                Err(Problem::new(Code::WrongRoom, "the join token is for another room"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is this room that they may see, and not an earlier one of the same name.
    ///
    /// # Errors
    /// [`Code::WrongRoom`].
    pub fn is_for(&self, room: &CallRoom) -> Result<(), Problem> {
        match self {
            Self::Member(claims) if room.metadata.uid.as_deref() != Some(&*claims.room_uid) => {
                Err(Problem::new(Code::WrongRoom, "the join token is for another room of this name"))
            }
            _ => Ok(()),
        }
    }

    /// Whether they may change `room`: backends, and its hosts.
    ///
    /// # Errors
    /// [`Code::WrongRoom`], [`Code::NotPermitted`].
    pub fn may_direct(&self, room: &CallId) -> Result<(), Problem> {
        self.may_see(room)?;
        match self {
            Self::Member(claims) if !matches!(claims.role.as_str(), "host" | "admin") => {
                Err(Problem::new(Code::NotPermitted, "this needs an API key or a host's join token"))
            }
            _ => Ok(()),
        }
    }
}

/// The bearer token (RFC 6750 §2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}
