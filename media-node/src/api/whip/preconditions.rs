//! `If-Match` and `ETag`.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::rooms::IfMatch;

/// More entity tags than these are not read: a client knows one.
const MAX_TAGS: usize = 16;

/// Reads `If-Match` (RFC 9110 §13.1.1). Weak tags match nothing, as the comparison is strong.
pub(super) fn if_match(headers: &HeaderMap) -> IfMatch {
    let mut values = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if values.peek().is_none() {
        return IfMatch::Absent;
    }
    let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).take(MAX_TAGS).collect();
    if tags == ["*"] {
        return IfMatch::Any;
    }
    let strong = |tag: &str| Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    IfMatch::Tags(tags.into_iter().filter_map(strong).collect())
}

/// A strong entity tag.
pub(super) fn etag(tag: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{tag}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_read_as_a_client_may_write_them() {
        let tags = |tags: &[&str]| IfMatch::Tags(tags.iter().map(ToString::to_string).collect());
        for (text, expected) in [
            ("*", IfMatch::Any),
            ("\"a\"", tags(&["a"])),
            ("\"a\", \"b\"", tags(&["a", "b"])),
            ("W/\"a\"", tags(&[])),
            ("a", tags(&[])),
            ("\"", tags(&[])),
            ("", tags(&[])),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, text.parse().unwrap())]);
            assert_eq!(if_match(&headers), expected, "{text}");
        }
        assert_eq!(if_match(&HeaderMap::new()), IfMatch::Absent);
    }
}
