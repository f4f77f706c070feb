//! Text to lines and attributes, within bounds.

use std::io::Cursor;

use rtc::sdp::description::{common::Attribute, session::SessionDescription};

use super::{Error, malformed};

/// Largest description, in bytes. Chromium's offers have 6 to 8 KB.
const MAX_TEXT: usize = 64 * 1024;
/// Most lines of one.
const MAX_LINES: usize = 2048;
/// Longest line, in bytes.
const MAX_LINE: usize = 2048;
/// Most `m=` sections.
pub(super) const MAX_SECTIONS: usize = 32;

/// What a fragment (RFC 8840 §9) lacks to be a description.
const PREAMBLE: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/// Reads a session description.
pub(super) fn description(text: &str) -> Result<SessionDescription, Error> {
    check(text)?;
    read(text)
}

/// Reads a fragment: attributes and sections alone.
pub(super) fn fragment(text: &str) -> Result<SessionDescription, Error> {
    check(text)?;
    read(&format!("{PREAMBLE}{text}"))
}

fn check(text: &str) -> Result<(), Error> {
    if text.len() > MAX_TEXT {
        return malformed(format!("the description is larger than {MAX_TEXT} bytes"));
    }
    let (mut lines, mut sections) = (0, 0);
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        lines += 1;
        sections += usize::from(line.starts_with("m="));
        if line.len() > MAX_LINE {
            return malformed(format!("line {lines} is longer than {MAX_LINE} bytes"));
        }
        if line.chars().any(char::is_control) {
            return malformed(format!("line {lines} holds a control character"));
        }
    }
    if lines > MAX_LINES {
        return malformed(format!("the description has more than {MAX_LINES} lines"));
    }
    if sections > MAX_SECTIONS {
        return malformed(format!("the description has more than {MAX_SECTIONS} media sections"));
    }
    Ok(())
}

fn read(text: &str) -> Result<SessionDescription, Error> {
    SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|error| Error::Malformed(format!("not a session description: {error}")))
}

/// Whether there is such an attribute.
pub(super) fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key)
}

/// Values of all attributes of this name.
pub(super) fn values<'a>(attributes: &'a [Attribute], key: &'a str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |attribute| attribute.key == key).filter_map(|attribute| attribute.value.as_deref())
}

/// Value of the first attribute of this name.
pub(super) fn value<'a>(attributes: &'a [Attribute], key: &'a str) -> Option<&'a str> {
    values(attributes, key).next()
}

/// Whether a text is an SDP token (RFC 8866 §9), up to this length.
pub(super) fn is_token(text: &str, longest: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether a text is of ICE characters (RFC 8839 §5.4).
pub(super) fn is_ice(text: &str, shortest: usize) -> bool {
    (shortest..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'='))
}
