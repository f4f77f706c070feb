//! Simulcast by rid (RFC 8851, RFC 8853): which streams, lowest first.

use rtc::sdp::description::common::Attribute;

use super::{
    Error,
    grammar::{is_token, value, values},
    malformed,
};

/// Most streams of a track.
pub(super) const MAX_RIDS: usize = 4;

/// Names whose order is known, lowest first. Browsers give no order but that of the list, and some
/// programs list the highest first.
const KNOWN: [&[&str]; 7] = [
    &["q", "h", "f"],
    &["l", "m", "h"],
    &["lo", "mid", "hi"],
    &["low", "mid", "high"],
    &["low", "medium", "high"],
    &["r0", "r1", "r2"],
    &["s0", "s1", "s2"],
];

/// Rids that the client sends, lowest first; empty without any.
pub(super) fn rids(attributes: &[Attribute], mid: &str, longest: usize) -> Result<Vec<String>, Error> {
    let mut stated: Vec<(&str, Option<u64>)> = Vec::new();
    for text in values(attributes, "rid") {
        let mut words = text.split_whitespace();
        let (Some(rid), Some(direction)) = (words.next(), words.next()) else {
            return malformed(format!("a=rid:{text} is not an id and a direction"));
        };
        if !is_token(rid, longest) || stated.iter().any(|(other, _)| *other == rid) {
            return malformed(format!("a=rid:{rid} is not 1 to {longest} token characters, or there twice"));
        }
        if direction == "send" {
            stated.push((rid, words.next().and_then(size)));
        }
        if stated.len() > MAX_RIDS {
            return malformed(format!("media section {mid} has more than {MAX_RIDS} streams"));
        }
    }
    let Some(list) = value(attributes, "simulcast") else {
        return Ok(stated.into_iter().map(|(rid, _)| rid.to_owned()).collect());
    };
    let mut words = list.split_whitespace();
    let mut rids = Vec::new();
    while let (Some(direction), Some(streams)) = (words.next(), words.next()) {
        if direction != "send" {
            continue;
        }
        for alternatives in streams.split(';') {
            // Alternatives are a choice of ours, and `~` starts a stream paused.
            let rid = alternatives.split(',').next().unwrap_or_default().trim_start_matches('~');
            let Some(known) = stated.iter().find(|(other, _)| *other == rid) else {
                return malformed(format!("a=simulcast names {rid}, which no a=rid describes"));
            };
            if rids.contains(known) {
                return malformed(format!("a=simulcast names {rid} twice"));
            }
            rids.push(*known);
        }
    }
    Ok(ascending(rids))
}

fn ascending(mut rids: Vec<(&str, Option<u64>)>) -> Vec<String> {
    if rids.iter().all(|(_, size)| size.is_some()) {
        rids.sort_by_key(|(_, size)| *size);
    } else if let Some(names) = KNOWN.iter().find(|names| rids.iter().all(|(rid, _)| names.contains(rid))) {
        rids.sort_by_key(|(rid, _)| names.iter().position(|name| name == rid));
    }
    rids.into_iter().map(|(rid, _)| rid.to_owned()).collect()
}

/// How large the restrictions of a rid (RFC 8851 §5) let its stream be.
fn size(restrictions: &str) -> Option<u64> {
    let number = |name| restrictions.split(';').find_map(|part| part.strip_prefix(name)?.parse::<u64>().ok());
    number("max-fs=").or_else(|| number("max-width=")).or_else(|| number("max-height=")).or_else(|| number("max-br="))
}
