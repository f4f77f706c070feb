//! Which headers go on, and which come back.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::access::bearer;

/// Headers that speak of one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The request's token: of `Authorization`, or among the WebSocket's subprotocols, as a browser has to give it.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| {
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        offered.flat_map(|value| value.split(',')).find_map(|name| name.trim().strip_prefix("bearer."))
    })
}

/// Whether a WebSocket is asked for (RFC 6455 §4.1).
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// The headers for the node. It is told who asks; whatever the client itself says about that is not believed here, so
/// it is not passed on, either.
pub fn onward(headers: &HeaderMap, client: IpAddr, websocket: bool) -> HeaderMap {
    let mut onward = end_to_end(headers);
    // The node's own, and what only browsers and this gateway need to agree on.
    for name in [header::HOST, header::ORIGIN] {
        onward.remove(name);
    }
    let forwarded = HeaderName::from_static("x-forwarded-for");
    onward.remove(header::FORWARDED);
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        onward.insert(forwarded, client);
    }
    if websocket {
        upgrade(&mut onward);
    }
    onward
}

/// The headers for the client. Which origins may read is said by the gateway.
pub fn back(headers: &HeaderMap, websocket: bool) -> HeaderMap {
    let mut back = end_to_end(headers);
    let cors: Vec<HeaderName> =
        back.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in cors {
        back.remove(name);
    }
    if websocket {
        upgrade(&mut back);
    }
    back
}

fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|value| value.split(',')) {
        if let Ok(name) = name.trim().parse::<HeaderName>() {
            kept.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_speaks_of_one_connection_or_lies_about_the_sender_stays_here() {
        let asked = headers(&[
            ("connection", "x-secret, close"),
            ("x-secret", "1"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("host", "calls.example.org"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer a.b.c"),
            ("content-type", "application/json"),
        ]);
        let sent = onward(&asked, "192.0.2.1".parse().unwrap(), false);
        let expected = headers(&[
            ("authorization", "Bearer a.b.c"),
            ("content-type", "application/json"),
            ("x-forwarded-for", "192.0.2.1"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_token_is_found_where_browsers_put_it() {
        assert_eq!(token(&headers(&[("sec-websocket-protocol", "callplane.v1, bearer.x.y.z")])), Some("x.y.z"));
        assert_eq!(token(&headers(&[("authorization", "bearer x.y.z")])), Some("x.y.z"));
        assert_eq!(token(&headers(&[("authorization", "Basic x")])), None);
    }

    #[test]
    fn the_gateway_alone_says_which_origins_may_read() {
        let came = headers(&[("access-control-allow-origin", "*"), ("content-type", "application/json")]);
        assert_eq!(back(&came, false), headers(&[("content-type", "application/json")]));
    }
}
