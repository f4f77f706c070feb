//! JSON bodies.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::Problem;

/// A JSON body of this type.
pub struct Body<T>(pub T);

/// Sound JSON, and what it is, or why it is not that. Read in one step, a number where one of several words belongs would
/// count as a mistake in the JSON itself.
struct Sound<T>(Result<T, String>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Sound<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Ok(Self(serde_path_to_error::deserialize(json).map_err(|error| error.to_string())))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<Sound<T>>::from_request(request, state).await {
            Ok(Json(Sound(Ok(body)))) => Ok(Self(body)),
            Ok(Json(Sound(Err(detail)))) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)),
            Err(rejection) => Err(problem(&rejection)),
        }
    }
}

fn problem(rejection: &JsonRejection) -> Problem {
    let (status, code) = match rejection {
        // Any JSON is a [`Value`]: what is not, is none.
        JsonRejection::JsonSyntaxError(_) | JsonRejection::JsonDataError(_) => {
            (StatusCode::BAD_REQUEST, "malformed-json")
        }
        JsonRejection::MissingJsonContentType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json"),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        _ => (StatusCode::BAD_REQUEST, "unreadable-body"),
    };
    Problem::new(status, code, rejection.body_text())
}
