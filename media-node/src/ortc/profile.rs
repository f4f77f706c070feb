//! Whether two ends mean the same variant of a codec: what cannot be decoded must not be offered.

use serde_json::{Map, Value};

type Parameters = Map<String, Value>;

/// Whether the parameters of one codec that both ends have name the same profile.
pub(super) fn same(mime_type: &str, a: &Parameters, b: &Parameters) -> bool {
    let equal = |name: &str| number(a, name) == number(b, name);
    match mime_type.to_ascii_lowercase().as_str() {
        "video/h264" => {
            equal("packetization-mode") && h264_profile(a).is_some_and(|profile| Some(profile) == h264_profile(b))
        }
        "video/vp9" => equal("profile-id"),
        "video/av1" => equal("profile"),
        _ => true,
    }
}

/// A number that may stand there as text; absent is 0, as the payload formats have it.
fn number(parameters: &Parameters, name: &str) -> Option<u64> {
    match parameters.get(name) {
        None => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    }
}

/// Profiles of H264 as RFC 6184 §8.1 tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    PredictiveHigh444,
}

/// The profile of a `profile-level-id`; without one it is Constrained Baseline. Levels need not be equal: each
/// end sends what it likes up to what the other can do, and senders are asked for their own level.
fn h264_profile(parameters: &Parameters) -> Option<H264Profile> {
    use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main, PredictiveHigh444};
    let text = match parameters.get("profile-level-id") {
        None => return Some(ConstrainedBaseline),
        Some(Value::String(text)) => text.clone(),
        // Six digits that happen to be decimal are taken for a number on the way.
        Some(value) => format!("{:06}", value.as_u64()?),
    };
    if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let id = u32::from_str_radix(&text, 16).ok()?;
    let (profile, constraints) = (id >> 16, (id >> 8) as u8);
    let set = |mask: u8| constraints & mask == mask;
    if constraints & 0x0f != 0 && profile != 0x64 {
        return None;
    }
    match profile {
        0x42 if set(0x40) => Some(ConstrainedBaseline),
        0x42 => Some(Baseline),
        0x4d if set(0x80) => Some(ConstrainedBaseline),
        0x4d if !set(0x20) => Some(Main),
        0x58 if set(0xc0) => Some(ConstrainedBaseline),
        0x58 if set(0x80) => Some(Baseline),
        0x64 if constraints == 0 => Some(High),
        0x64 if constraints == 0x0c => Some(ConstrainedHigh),
        0xf4 if constraints == 0 => Some(PredictiveHigh444),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(mime_type: &str, a: &Value, b: &Value) -> bool {
        same(mime_type, a.as_object().unwrap(), b.as_object().unwrap())
    }

    #[test]
    fn h264_is_the_same_by_profile_and_packetization_whatever_the_level() {
        let h264 = |id: &str, mode: u8| json!({"profile-level-id": id, "packetization-mode": mode});
        for (a, b, expected) in [
            (h264("42e01f", 1), h264("42e01f", 1), true),
            (h264("42e01f", 1), h264("42e034", 1), true),
            (h264("42e01f", 1), h264("42E01F", 1), true),
            (h264("42e01f", 1), h264("42c00b", 1), true),
            (h264("42e01f", 1), h264("42e01f", 0), false),
            (h264("42e01f", 1), h264("42001f", 1), false),
            (h264("42e01f", 1), h264("4d001f", 1), false),
            (h264("4d001f", 1), h264("4d0032", 1), true),
            (h264("42e01f", 1), h264("4d801f", 1), true),
            (h264("640c1f", 1), h264("64001f", 1), false),
            (h264("nonsense", 1), h264("nonsense", 1), false),
            (h264("42e01f", 0), json!({}), true),
            (json!({"packetization-mode": "1"}), h264("42e01f", 1), true),
            (json!({"profile-level-id": 420_020}), json!({"profile-level-id": "420020"}), true),
            (json!({"packetization-mode": "x"}), h264("42e01f", 0), false),
        ] {
            assert_eq!(matches("video/H264", &a, &b), expected, "{a} {b}");
        }
    }

    #[test]
    fn vp9_and_av1_are_the_same_by_profile() {
        assert!(matches("video/VP9", &json!({}), &json!({"profile-id": 0})));
        assert!(!matches("video/vp9", &json!({"profile-id": 2}), &json!({})));
        assert!(matches("video/AV1", &json!({"profile": 0, "level-idx": 5}), &json!({"tier": 0})));
        assert!(!matches("video/AV1", &json!({"profile": 1}), &json!({})));
        assert!(matches("audio/opus", &json!({"usedtx": 1}), &json!({})));
    }
}
