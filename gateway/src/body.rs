//! JSON bodies: bounded, typed, and refused by the name of the field that is wrong.

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    http::header,
};
use serde::de::DeserializeOwned;

use crate::{Code, Problem};

/// Longest body of a request that is answered here.
const MAX_BODY: usize = 16 * 1024;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_json = kind.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::new(Code::NotJson, "set content-type: application/json"));
        }
        parse(&bytes(request).await?).map(Self)
    }
}

async fn bytes(request: Request) -> Result<Bytes, Problem> {
    to_bytes(request.into_body(), MAX_BODY).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|s| s.is::<http_body_util::LengthLimitError>()) {
            true => Problem::new(Code::TooLarge, format!("a body may have {MAX_BODY} bytes")),
            false => Problem::new(Code::UnreadableBody, "the body ended early"),
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Problem::new(Code::MalformedJson, inner.to_string());
        }
        let detail = inner.to_string();
        let field = match missing(&detail) {
            Some(name) if path == "." => name.to_owned(),
            Some(name) => format!("{path}.{name}"),
            None => path,
        };
        let code = if detail.starts_with("unknown field") { Code::UnknownField } else { Code::Invalid };
        Problem::new(code, detail).field(field)
    })?;
    json.end().map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    Ok(value)
}

/// The field that serde misses; its path ends at the object that lacks it.
fn missing(detail: &str) -> Option<&str> {
    detail.strip_prefix("missing field `")?.split('`').next()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only that it parses")]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only that it parses")]
        count: u8,
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, code, field) in [
            (r#"{"inner": {"count": 1}}"#, None, None),
            (r#"{"inner": {"count": "x"}}"#, Some(Code::Invalid), Some("inner.count")),
            (r#"{"inner": {"count": 1, "more": 2}}"#, Some(Code::UnknownField), Some("inner.more")),
            (r#"{"inner": {}}"#, Some(Code::Invalid), Some("inner.count")),
            ("{}", Some(Code::Invalid), Some("inner")),
            ("{", Some(Code::MalformedJson), None),
            (r#"{"inner": {"count": 1}} x"#, Some(Code::MalformedJson), None),
        ] {
            let problem = parse::<Outer>(body.as_bytes()).err();
            assert_eq!(problem.as_ref().map(Problem::code), code, "{body}");
            assert_eq!(problem.and_then(|p| p.details.field).as_deref(), field, "{body}");
        }
    }
}
