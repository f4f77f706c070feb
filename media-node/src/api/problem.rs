//! Errors as RFC 9457 problem details.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{auth::AuthError, ortc, rooms::Refusal, sdp};

/// An error as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Details>);

/// `code` is stable, `detail` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    /// `urn:callplane:problem:<code>`.
    r#type: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong, for programs.
    code: &'static str,
    /// What went wrong, for people.
    detail: String,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Epoch of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_epoch: Option<i64>,
    /// Epoch that the node serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_epoch: Option<i64>,
    /// Seconds after which it is worth to ask again.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    /// A problem with nothing more to say.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            r#type: format!("urn:callplane:problem:{code}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
            token_epoch: None,
            served_epoch: None,
            retry_after: None,
        }))
    }

    /// With `Retry-After`.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    fn field(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    fn epochs(mut self, token: i64, served: i64) -> Self {
        (self.0.token_epoch, self.0.served_epoch) = (Some(token), Some(served));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 §15.5.22: what to upgrade to has to be said, and §7.8: also as a connection option.
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 §3: an error code only if a token was there.
            let challenge = match self.0.code {
                "token-missing" => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Missing => "token-missing",
            AuthError::Expired => "token-expired",
            _ => "token-invalid",
        };
        Self::new(StatusCode::UNAUTHORIZED, code, error.to_string())
    }
}

impl From<sdp::Error> for Problem {
    fn from(error: sdp::Error) -> Self {
        let (status, code) = match error {
            sdp::Error::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed-sdp"),
            sdp::Error::Unacceptable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unacceptable-offer"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let problem = |status, code| Self::new(status, code, detail.clone());
        match &refusal {
            Refusal::RoomNotFound => problem(StatusCode::NOT_FOUND, "room-not-found"),
            Refusal::RoomReplaced => problem(StatusCode::CONFLICT, "room-replaced"),
            Refusal::Removed => problem(StatusCode::FORBIDDEN, "removed"),
            Refusal::EpochStale { token, served } => {
                problem(StatusCode::CONFLICT, "epoch-stale").epochs(*token, *served)
            }
            Refusal::EpochSuperseded { token, served } => {
                problem(StatusCode::CONFLICT, "epoch-superseded").epochs(*token, *served)
            }
            Refusal::Resyncing => problem(StatusCode::SERVICE_UNAVAILABLE, "resyncing").retry_after(1),
            Refusal::Busy => problem(StatusCode::SERVICE_UNAVAILABLE, "busy").retry_after(1),
            Refusal::RoomFull { .. } => problem(StatusCode::CONFLICT, "room-full"),
            Refusal::Forbidden(_) => problem(StatusCode::FORBIDDEN, "not-permitted"),
            Refusal::NotFound("transport") => problem(StatusCode::NOT_FOUND, "transport-not-found"),
            Refusal::NotFound("producer") => problem(StatusCode::NOT_FOUND, "producer-not-found"),
            Refusal::NotFound("consumer") => problem(StatusCode::NOT_FOUND, "consumer-not-found"),
            Refusal::NotFound("data producer") => problem(StatusCode::NOT_FOUND, "data-producer-not-found"),
            Refusal::NotFound("data consumer") => problem(StatusCode::NOT_FOUND, "data-consumer-not-found"),
            Refusal::NotFound("session") => problem(StatusCode::NOT_FOUND, "session-not-found"),
            Refusal::NotFound(_) => problem(StatusCode::NOT_FOUND, "not-found"),
            Refusal::NotInRoom => problem(StatusCode::CONFLICT, "not-in-room"),
            Refusal::TooMany { .. } => problem(StatusCode::CONFLICT, "too-many"),
            Refusal::Conflict(_) => problem(StatusCode::CONFLICT, "conflict"),
            Refusal::PreconditionRequired => problem(StatusCode::PRECONDITION_REQUIRED, "precondition-required"),
            Refusal::PreconditionFailed => problem(StatusCode::PRECONDITION_FAILED, "precondition-failed"),
            Refusal::Parameters(error) => {
                let code = match error {
                    ortc::Error::Invalid { .. } => "invalid",
                    ortc::Error::Unsupported { .. } => "unsupported",
                };
                problem(StatusCode::UNPROCESSABLE_ENTITY, code).field(error.field())
            }
        }
    }
}
