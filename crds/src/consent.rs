//! What people are asked to consent to before they are let into a call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people are asked to consent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consent {
    /// Set to true to let only those in who consented.
    #[serde(default)]
    pub required: bool,

    /// What for.
    #[serde(default = "every_consent_type")]
    #[schemars(length(min = 1, max = 1))]
    pub types: Vec<ConsentType>,

    /// Version of the text that people are shown. With another version they are asked again.
    #[serde(default = "first_version")]
    #[schemars(length(min = 1, max = 64))]
    pub version: String,
}

fn every_consent_type() -> Vec<ConsentType> {
    vec![ConsentType::RecordingAi]
}

fn first_version() -> String {
    "1".to_owned()
}

/// What people can be asked to consent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConsentType {
    /// That the call is recorded and evaluated by software.
    #[serde(rename = "recording_ai")]
    RecordingAi,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}
