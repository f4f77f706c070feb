//! JSON bodies: bounded, typed, and refused by the name of the field that is wrong.

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    http::header,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    let read = serde_path_to_error::deserialize(&mut json);
    match read {
        Ok(value) => json.end().map(|()| value).map_err(|error| malformed(&error)),
        Err(error) if error.inner().is_data() => Err(wrong(&error)),
        // A number where one of several words belongs counts as a mistake in the JSON itself, which it is not.
        Err(_) => {
            let sound: Value = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
            serde_path_to_error::deserialize(sound).map_err(|error| wrong(&error))
        }
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::MalformedJson, error.to_string())
}

/// Sound JSON, but not what belongs there.
fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, detail) = (error.path().to_string(), error.inner().to_string());
    let field = match missing(&detail) {
        Some(name) if path == "." => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path,
    };
    let code = if detail.starts_with("unknown field") { Code::UnknownField } else { Code::Invalid };
    Problem::new(code, detail).field(field)
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
        #[serde(default)]
        #[expect(dead_code, reason = "only that it parses")]
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, code, field) in [
            (r#"{"inner": {"count": 1}}"#, None, None),
            (r#"{"inner": {"count": "x"}}"#, Some(Code::Invalid), Some("inner.count")),
            (r#"{"inner": {"count": 1, "more": 2}}"#, Some(Code::UnknownField), Some("inner.more")),
            (r#"{"inner": {}}"#, Some(Code::Invalid), Some("inner.count")),
            (r#"{"inner": {"count": 1, "count": 2}}"#, Some(Code::Invalid), Some("inner")),
            (r#"{"inner": {"count": 1, "word": "one"}}"#, None, None),
            (r#"{"inner": {"count": 1, "word": "two"}}"#, Some(Code::Invalid), Some("inner.word")),
            (r#"{"inner": {"count": 1, "word": 7}}"#, Some(Code::Invalid), Some("inner.word")),
            (r#"{"inner": {"count": 1, "word": 7}"#, Some(Code::MalformedJson), None),
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
