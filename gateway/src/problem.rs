//! Errors as RFC 9457 problem details, with codes that clients may rely on.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, for programs. Codes are never renamed or given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The body is not JSON.
    MalformedJson,
    /// `field` is none that is known here.
    UnknownField,
    /// The body could not be read to its end.
    UnreadableBody,
    /// Neither an API key nor a join token nor a link token.
    CredentialsMissing,
    /// An API key, join token or link token that is not one of this service.
    CredentialsInvalid,
    /// A join token or link token that is over.
    CredentialsExpired,
    /// The credentials are good, but not for this.
    NotPermitted,
    /// The issuer's token has not the scopes or roles that backends need here.
    InsufficientScope,
    /// The token is for another room.
    WrongRoom,
    /// The room does not let this role in.
    RoleNotAllowed,
    /// The room lets nobody in but its hosts.
    RoomLocked,
    /// The room has a password: give it as `password`.
    PasswordRequired,
    /// The room has another password.
    WrongPassword,
    /// A host removed them from the call after the token was made.
    Removed,
    /// The room wants a consent that was not given, or not for the present version.
    ConsentRequired,
    /// The share link was revoked.
    LinkRevoked,
    /// The API server does not let the gateway do this: rights, a quota or a policy.
    KubernetesRefused,
    /// There is no such room.
    RoomNotFound,
    /// There is no such participant in the call, or none that is connected.
    ParticipantNotFound,
    /// There is no event of this name.
    NoSuchEvent,
    /// Nothing is served at this path.
    NoSuchRoute,
    /// Not with this method.
    MethodNotAllowed,
    /// There is a room of this name, and it was not made by this request.
    RoomExists,
    /// Somebody else changed the room at the same time, again and again.
    Conflict,
    /// As many people as there may be are in the call.
    RoomFull,
    /// The socket has joined no room.
    NotJoined,
    /// As many as there can be.
    TooMany,
    /// The call is peer to peer, so there is no media node to ask.
    NoMediaNode,
    /// The call is scheduled for later.
    NotYet,
    /// The call is over.
    RoomEnded,
    /// `continue` is too old.
    ContinueExpired,
    /// The body is too long.
    TooLarge,
    /// The body is not `application/json`.
    NotJson,
    /// `field` cannot be what it is.
    Invalid,
    /// The Idempotency-Key was used for another request.
    IdempotencyKeyReused,
    /// Too many requests.
    RateLimited,
    /// `field` is a setting that does not work yet.
    UnsupportedSetting,
    /// It needs records, and this installation keeps none.
    RecordsOff,
    /// The media node of the room does not answer.
    NodeUnreachable,
    /// The room has no media node yet.
    RoomNotReady,
    /// The media node of the room does not say where it is.
    NodeNotReady,
    /// The API server is away.
    KubernetesUnavailable,
    /// The database of records does not answer, and this cannot be done without it.
    RecordsUnavailable,
    /// The keys of the issuer of backends' tokens are not known yet.
    IssuerUnavailable,
    /// There is no key to sign tokens with yet.
    NoSigningKey,
    /// The key that the hashes of passwords were made with is not there.
    NoPasswordKey,
    /// As many requests as can be are under way.
    Busy,
    /// The request took too long here.
    Timeout,
    /// The media node took too long.
    NodeTimeout,
}

impl Code {
    /// HTTP status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson | Self::UnknownField | Self::UnreadableBody => StatusCode::BAD_REQUEST,
            Self::CredentialsMissing | Self::CredentialsInvalid | Self::CredentialsExpired => StatusCode::UNAUTHORIZED,
            Self::NotPermitted
            | Self::InsufficientScope
            | Self::WrongRoom
            | Self::RoleNotAllowed
            | Self::RoomLocked
            | Self::PasswordRequired
            | Self::WrongPassword
            | Self::Removed
            | Self::ConsentRequired
            | Self::LinkRevoked
            | Self::KubernetesRefused => StatusCode::FORBIDDEN,
            Self::RoomNotFound | Self::ParticipantNotFound | Self::NoSuchEvent | Self::NoSuchRoute => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotYet
            | Self::RoomExists
            | Self::Conflict
            | Self::RoomFull
            | Self::NotJoined
            | Self::TooMany
            | Self::NoMediaNode => StatusCode::CONFLICT,
            Self::RoomEnded | Self::ContinueExpired => StatusCode::GONE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid | Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::UnsupportedSetting | Self::RecordsOff => StatusCode::NOT_IMPLEMENTED,
            Self::NodeUnreachable => StatusCode::BAD_GATEWAY,
            Self::RoomNotReady
            | Self::NodeNotReady
            | Self::KubernetesUnavailable
            | Self::RecordsUnavailable
            | Self::IssuerUnavailable
            | Self::NoSigningKey
            | Self::NoPasswordKey
            | Self::Busy
            | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::NodeTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// As it stands in the answer.
    pub fn text(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Seconds after which it is worth to ask again.
    const fn retry_after(self) -> Option<u64> {
        match self {
            Self::RoomNotReady | Self::NodeNotReady | Self::NoSigningKey | Self::Busy | Self::Timeout => Some(1),
            Self::KubernetesUnavailable | Self::RecordsUnavailable | Self::IssuerUnavailable | Self::NoPasswordKey => {
                Some(5)
            }
            _ => None,
        }
    }
}

/// An error as clients see it (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Details {
    /// `urn:callplane:problem:<code>`.
    #[schema(example = "urn:callplane:problem:room-not-found")]
    r#type: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong, for programs.
    pub(crate) code: Code,
    /// What went wrong, for people; may change.
    detail: String,
    /// The field that is wrong, as a path such as `settings.maxParticipants`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) field: Option<String>,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(crate) details: Box<Details>,
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem with nothing more to say.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let status = code.status();
        let details = Details {
            r#type: format!("urn:callplane:problem:{}", code.text()),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
        };
        Self { details: Box::new(details), retry_after: code.retry_after() }
    }

    /// Of this field.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.details.field = Some(field.into());
        self
    }

    /// Worth another try after so many seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// What went wrong, for programs.
    pub fn code(&self) -> Code {
        self.details.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.details.code;
        let body = serde_json::to_vec(&self.details).unwrap_or_default();
        let mut response = (code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 6750 §3: an error code only if credentials were there.
        let challenge = match code {
            Code::CredentialsMissing => Some("Bearer"),
            Code::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
            _ if code.status() == StatusCode::UNAUTHORIZED => Some("Bearer error=\"invalid_token\""),
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(code);
        response
    }
}
