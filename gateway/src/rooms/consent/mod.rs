//! Consent: asked of people before they join, kept for good, shown to who may know.
//!
//! Who consents is given a token that says so, and gives it to `/join`. The token binds the answer to the person and to the text;
//! that the answer still stands is asked of the records at each join, so who takes it back is let in nowhere.

mod give;
mod list;

use callplane_crds::{
    CallRoom,
    consent::{Consent as Asked, ConsentType},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use give::{GiveConsent, GivenConsent, give_consent};
pub use list::{ConsentList, ConsentView, consents};

pub(crate) use give::__path_give_consent;
pub(crate) use list::__path_consents;

use crate::{
    Code, Gateway, Problem,
    access::{CONSENT_AUDIENCE, ConsentClaims},
    records,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConsentType)]
pub enum Kind {
    /// That the call is recorded and evaluated by software.
    RecordingAi,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ConsentAnswer)]
pub enum Answer {
    /// Yes.
    Accepted,
    /// No, or not any more.
    Declined,
}

/// What a room asks for, as far as this version knows it.
pub(super) fn kinds(asked: &Asked) -> impl Iterator<Item = Option<Kind>> {
    asked.types.iter().map(|of_room| match of_room {
        ConsentType::RecordingAi => Some(Kind::RecordingAi),
        ConsentType::Unknown => None,
    })
}

impl From<Kind> for ConsentType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::RecordingAi => Self::RecordingAi,
        }
    }
}

impl Kind {
    /// As it stands in the records.
    const fn as_str(self) -> &'static str {
        match self {
            Self::RecordingAi => "recording_ai",
        }
    }
}

impl Answer {
    /// As it stands in the records.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
        }
    }
}

/// Whether the room wants consent before anybody joins.
pub(super) fn is_required(room: &CallRoom) -> bool {
    room.spec.consent.as_ref().is_some_and(|asked| asked.required)
}

/// What `token` says, where one was given.
pub(super) fn claims(gateway: &Gateway, token: Option<&str>) -> Result<Option<ConsentClaims>, Problem> {
    let verify = |token| gateway.signer.verify(token, CONSENT_AUDIENCE, gateway.clock.now().wall);
    token.map(verify).transpose().map_err(|problem| problem.field("consentToken"))
}

/// Whether `claims` say that `user` consented to all that the room wants, as it is worded now.
pub(super) fn check(
    gateway: &Gateway,
    room: &CallRoom,
    user: &str,
    claims: Option<&ConsentClaims>,
) -> Result<(), Problem> {
    let Some(asked) = room.spec.consent.as_ref().filter(|asked| asked.required) else { return Ok(()) };
    if !gateway.records.are_on() {
        return Err(records::off());
    }
    let uid = room.metadata.uid.as_deref().unwrap_or_default();
    match missing(asked, uid, user, claims) {
        None => Ok(()),
        Some(wanted) => {
            let detail = format!("the room wants consent to {wanted} in version {:?}", asked.version);
            Err(Problem::new(Code::ConsentRequired, detail).field("consentToken"))
        }
    }
}

/// What `user` has not consented to of what the room with this `uid` wants.
fn missing(asked: &Asked, uid: &str, user: &str, claims: Option<&ConsentClaims>) -> Option<&'static str> {
    let theirs =
        claims.filter(|claims| claims.sub == user && claims.room_uid == uid && claims.version == asked.version);
    // What only a newer version knows nobody can have consented to here.
    let mut wanted = kinds(asked).map(|kind| kind.map_or("something that this version does not know", Kind::as_str));
    wanted.find(|wanted| theirs.is_none_or(|claims| claims.consent_type != *wanted))
}

/// Whether the records say that `user` has not taken back since what the room wants.
///
/// # Errors
/// [`Code::ConsentRequired`] if they have, [`Code::RecordsUnavailable`] while nobody knows.
pub(super) async fn still_stands(gateway: &Gateway, room: &CallRoom, user: &str) -> Result<(), Problem> {
    let Some(asked) = room.spec.consent.as_ref().filter(|asked| asked.required) else { return Ok(()) };
    let uid = room.metadata.uid.as_deref().unwrap_or_default();
    for kind in kinds(asked).flatten() {
        let last = gateway.records.last_answer(&room.call_id(), uid, user, kind.as_str()).await?;
        let what = match last.as_deref() {
            Some(accepted) if accepted == Answer::Accepted.as_str() => continue,
            Some(_) => "was taken back",
            None => "is not among the records",
        };
        let detail = format!("the consent to {} {what}", kind.as_str());
        return Err(Problem::new(Code::ConsentRequired, detail).field("consentToken"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use callplane_crds::names::TOKEN_ISSUER;

    use super::*;

    #[test]
    fn a_consent_is_for_one_person_one_room_one_thing_and_one_text() {
        let asked = |types: &[ConsentType]| Asked { required: true, types: types.to_vec(), version: "2".into() };
        let given = ConsentClaims {
            iss: TOKEN_ISSUER.into(),
            aud: CONSENT_AUDIENCE.into(),
            sub: "bob".into(),
            room_id: "team.standup".into(),
            room_uid: "uid-1".into(),
            consent_type: "recording_ai".into(),
            version: "2".into(),
            link: None,
            iat: 0,
            exp: 600,
        };
        let recording = asked(&[ConsentType::RecordingAi]);
        let lacks = |claims: Option<&ConsentClaims>| missing(&recording, "uid-1", "bob", claims);
        assert_eq!(lacks(Some(&given)), None);
        for other in [
            None,
            Some(ConsentClaims { sub: "carl".into(), ..given.clone() }),
            Some(ConsentClaims { room_uid: "uid-2".into(), ..given.clone() }),
            Some(ConsentClaims { version: "1".into(), ..given.clone() }),
            Some(ConsentClaims { consent_type: "marketing".into(), ..given.clone() }),
        ] {
            assert_eq!(lacks(other.as_ref()), Some("recording_ai"), "{other:?}");
        }
        let newer = asked(&[ConsentType::RecordingAi, ConsentType::Unknown]);
        let lacks = missing(&newer, "uid-1", "bob", Some(&given));
        assert_eq!(lacks, Some("something that this version does not know"));
    }
}
