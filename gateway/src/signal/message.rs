//! What clients send, and what of it cannot be. Pure.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::member::Level;
use crate::{Code, Problem};

/// Longest session description, in bytes.
pub const MAX_SDP: usize = 64 * 1024;
/// Longest ICE candidate, as JSON, in bytes.
pub const MAX_CANDIDATE: usize = 4096;
/// Longest line of the chat, in bytes.
pub const MAX_CHAT_TEXT: usize = 4096;
/// Longest reason of a client's own, in bytes.
const MAX_REASON: usize = 256;
/// Longest name of an event that is looked at.
const MAX_EVENT: usize = 64;
/// Longest id that is taken for one.
const MAX_ID: usize = 128;

/// Where a client comes back from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Resume {
    /// `session` of `call:joined`.
    pub session: String,
    /// `seq` of the last event.
    pub seq: String,
}

/// `join-room`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRoom {
    /// Call id.
    pub room_id: String,
    /// Join token.
    pub token: String,
    /// Where it comes back from.
    #[serde(default)]
    pub resume: Option<Resume>,
    /// The microphone is off.
    #[serde(default)]
    pub is_muted: Option<bool>,
    /// The camera is on.
    #[serde(default)]
    pub is_video_on: Option<bool>,
}

/// `webrtc:offer`, `webrtc:answer`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// For whom.
    pub target_user_id: String,
    /// The description.
    pub sdp: String,
    /// Of which epoch.
    pub epoch: i64,
}

/// `webrtc:ice-candidate`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// For whom.
    pub target_user_id: String,
    /// An `RTCIceCandidateInit`, handed on unread; `null` after the last one.
    pub candidate: Value,
    /// Of which epoch.
    pub epoch: i64,
}

/// `route-ack`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RouteAck {
    /// Which.
    pub epoch: i64,
    /// Media flows.
    pub success: bool,
    /// Why it does not.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `update-state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateState {
    /// The microphone is off.
    #[serde(default)]
    pub is_muted: Option<bool>,
    /// The camera is on.
    #[serde(default)]
    pub is_video_on: Option<bool>,
}

/// `quality`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of which epoch.
    pub epoch: i64,
    /// 0 to 100.
    pub packet_loss_percent: f64,
    /// Round trip, in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Bits per second.
    #[serde(default)]
    pub bitrate: Option<f64>,
    /// In the client's own words.
    #[serde(default)]
    pub level: Option<Level>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consumer {
    consumer_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    user_id: String,
}

#[derive(Deserialize)]
struct Lock {
    locked: bool,
}

/// Which description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdp {
    /// `webrtc:offer`
    Offer,
    /// `webrtc:answer`
    Answer,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// `join-room`
    Join(Box<JoinRoom>),
    /// `leave-room`
    Leave,
    /// `refresh-token`
    Refresh,
    /// `webrtc:offer`, `webrtc:answer`
    Description(Sdp, Description),
    /// `webrtc:ice-candidate`
    Candidate(Candidate),
    /// `route-ack`
    Ack(RouteAck),
    /// `update-state`
    State(UpdateState),
    /// `pause-consumer`
    Pause(String),
    /// `resume-consumer`
    Resume(String),
    /// `chat`
    Chat(String),
    /// `quality`
    Quality(Report),
    /// `host:mute`
    Mute(String),
    /// `host:remove`
    Remove(String),
    /// `host:end`
    End,
    /// `host:lock`
    Lock(bool),
}

impl Message {
    /// What `event` with `data` means.
    ///
    /// # Errors
    /// [`Code::Invalid`] with the field that is wrong, [`Code::TooLarge`], [`Code::NoSuchEvent`].
    pub fn parse(event: &str, data: Value) -> Result<Self, Problem> {
        Ok(match event {
            "join-room" => Self::Join(Box::new(read(data)?)),
            "leave-room" => Self::Leave,
            "refresh-token" => Self::Refresh,
            "webrtc:offer" => Self::Description(Sdp::Offer, description(data)?),
            "webrtc:answer" => Self::Description(Sdp::Answer, description(data)?),
            "webrtc:ice-candidate" => {
                let candidate: Candidate = read(data)?;
                if !candidate.candidate.is_null() && !candidate.candidate.is_object() {
                    return Err(invalid("candidate", "is an RTCIceCandidateInit, or null"));
                }
                at_most("candidate", candidate.candidate.to_string().len(), MAX_CANDIDATE)?;
                Self::Candidate(candidate)
            }
            "route-ack" => {
                let ack: RouteAck = read(data)?;
                at_most("reason", ack.reason.as_ref().map_or(0, String::len), MAX_REASON)?;
                Self::Ack(ack)
            }
            "update-state" => Self::State(read(data)?),
            "pause-consumer" => Self::Pause(consumer(data)?),
            "resume-consumer" => Self::Resume(consumer(data)?),
            "chat" => {
                let Text { text } = read(data)?;
                at_most("text", text.len(), MAX_CHAT_TEXT)?;
                if text.trim().is_empty() || text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
                    let detail = "is not empty, and has no control characters but line breaks and tabs";
                    return Err(invalid("text", detail));
                }
                Self::Chat(text)
            }
            "quality" => {
                let report: Report = read(data)?;
                if !(0.0..=100.0).contains(&report.packet_loss_percent) {
                    return Err(invalid("packetLossPercent", "is 0 to 100"));
                }
                Self::Quality(report)
            }
            "host:mute" => Self::Mute(read::<Target>(data)?.user_id),
            "host:remove" => Self::Remove(read::<Target>(data)?.user_id),
            "host:end" => Self::End,
            "host:lock" => Self::Lock(read::<Lock>(data)?.locked),
            other => {
                let name: String = other.chars().take(MAX_EVENT).filter(|c| !c.is_control()).collect();
                return Err(Problem::new(Code::NoSuchEvent, format!("there is no event {name}")));
            }
        })
    }
}

fn read<T: DeserializeOwned>(data: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(data).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = missing.map_or(path, str::to_owned);
        Problem::new(Code::Invalid, detail).field(field)
    })
}

fn description(data: Value) -> Result<Description, Problem> {
    let description: Description = read(data)?;
    at_most("sdp", description.sdp.len(), MAX_SDP)?;
    Ok(description)
}

fn consumer(data: Value) -> Result<String, Problem> {
    let Consumer { consumer_id } = read(data)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match (1..=MAX_ID).contains(&consumer_id.len()) && consumer_id.chars().all(is_plain) {
        true => Ok(consumer_id),
        false => Err(invalid("consumerId", "is no id of a consumer")),
    }
}

fn invalid(field: &str, detail: &str) -> Problem {
    Problem::new(Code::Invalid, detail).field(field)
}

fn at_most(field: &str, length: usize, longest: usize) -> Result<(), Problem> {
    match length <= longest {
        true => Ok(()),
        false => Err(Problem::new(Code::TooLarge, format!("may have {longest} bytes")).field(field)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_the_field() {
        let offer = |sdp: usize| json!({"targetUserId": "bob", "sdp": "x".repeat(sdp), "epoch": 1});
        let candidate =
            |n: usize| json!({"targetUserId": "bob", "candidate": {"candidate": "x".repeat(n)}, "epoch": 1});
        let loss = |percent: f64| json!({"epoch": 1, "packetLossPercent": percent});
        for (event, data, wrong) in [
            ("webrtc:offer", offer(MAX_SDP), None),
            ("webrtc:offer", offer(MAX_SDP + 1), Some((Code::TooLarge, Some("sdp")))),
            ("webrtc:answer", json!({"sdp": "x", "epoch": 1}), Some((Code::Invalid, Some("targetUserId")))),
            ("webrtc:ice-candidate", candidate(4000), None),
            ("webrtc:ice-candidate", candidate(5000), Some((Code::TooLarge, Some("candidate")))),
            ("webrtc:ice-candidate", json!({"targetUserId": "bob", "candidate": null, "epoch": 1}), None),
            (
                "webrtc:ice-candidate",
                json!({"targetUserId": "bob", "candidate": "x", "epoch": 1}),
                Some((Code::Invalid, Some("candidate"))),
            ),
            ("chat", json!({"text": "<b>\u{2028}hi</b>\n"}), None),
            ("chat", json!({"text": "x".repeat(4097)}), Some((Code::TooLarge, Some("text")))),
            ("chat", json!({"text": " \n"}), Some((Code::Invalid, Some("text")))),
            ("chat", json!({"text": "a\u{7}"}), Some((Code::Invalid, Some("text")))),
            ("chat", Value::Null, Some((Code::Invalid, Some(".")))),
            ("quality", loss(100.0), None),
            ("quality", loss(100.5), Some((Code::Invalid, Some("packetLossPercent")))),
            ("quality", json!({"epoch": 1}), Some((Code::Invalid, Some("packetLossPercent")))),
            ("resume-consumer", json!({"consumerId": "../x"}), Some((Code::Invalid, Some("consumerId")))),
            ("route-ack", json!({"epoch": 1, "success": "yes"}), Some((Code::Invalid, Some("success")))),
            ("leave-room", Value::Null, None),
            ("eval", Value::Null, Some((Code::NoSuchEvent, None))),
        ] {
            let problem = Message::parse(event, data.clone()).err();
            let told = problem.as_ref().map(|problem| (problem.code(), problem.details.field.as_deref()));
            assert_eq!(told, wrong, "{event} {data:.80}");
        }
    }
}
