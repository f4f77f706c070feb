//! What a room's `spec.media` says, as far as a node obeys it.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{
    core::RoomLimits,
    ortc::{self, Kind, RtpCapabilities, RtpParameters},
};

/// What may be published, and who is heard and seen. The default limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "MediaSpec")]
pub struct MediaRules {
    /// Video codecs that may be published, the most preferred first, as the subtypes of their media types; `None` for all
    /// of the router's.
    pub video_codecs: Option<Vec<String>>,
    /// Every track is published in one encoding.
    pub single_encoding: bool,
    /// What the packet core obeys.
    pub limits: RoomLimits,
}

impl MediaRules {
    /// The router's capabilities as far as the room has them: clients choose the first codec that they have, too.
    pub fn router(&self) -> Cow<'static, RtpCapabilities> {
        match &self.video_codecs {
            None => Cow::Borrowed(ortc::router_capabilities()),
            Some(allowed) => Cow::Owned(ortc::with_video_codecs(allowed)),
        }
    }

    /// Whether a track of these parameters may be published, besides having a codec of [`MediaRules::router`].
    ///
    /// # Errors
    /// [`ortc::Error::Unsupported`] with what may be published instead.
    pub fn check(&self, kind: Kind, parameters: &RtpParameters) -> Result<(), ortc::Error> {
        if kind == Kind::Video && self.single_encoding && parameters.encodings.len() > 1 {
            let reason = "has several encodings, and this room takes one per track (spec.media.simulcast is false)";
            return Err(ortc::Error::unsupported("rtpParameters.encodings", reason));
        }
        Ok(())
    }
}

/// As `CallRoom` has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MediaSpec {
    video_codecs: Option<Vec<String>>,
    simulcast: Option<bool>,
    max_publish_bitrate: Option<u64>,
    last_n: Option<usize>,
    loudest: Option<usize>,
}

impl From<MediaSpec> for MediaRules {
    fn from(spec: MediaSpec) -> Self {
        let MediaSpec { video_codecs, simulcast, max_publish_bitrate, last_n, loudest } = spec;
        let limits = RoomLimits { last_n, loudest, max_publish_bitrate };
        Self { video_codecs, single_encoding: simulcast == Some(false), limits }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(media: serde_json::Value) -> MediaRules {
        serde_json::from_value(media).unwrap()
    }

    fn codecs(rules: &MediaRules) -> Vec<String> {
        rules.router().codecs.iter().filter(|c| !c.mime_type.ends_with("/rtx")).map(|c| c.mime_type.clone()).collect()
    }

    #[test]
    fn a_room_that_says_nothing_has_all_that_the_router_has() {
        let rules = rules(json!({"something": "newer"}));
        assert_eq!(rules, MediaRules::default());
        assert_eq!(*rules.router(), *ortc::router_capabilities());
    }

    #[test]
    fn a_room_offers_its_codecs_in_its_order_with_rtx() {
        let rules = rules(json!({"videoCodecs": ["AV1", "VP8"]}));
        assert_eq!(codecs(&rules), ["audio/opus", "audio/red", "video/AV1", "video/VP8"]);
        let router = rules.router();
        let of = |mime: &str| router.codecs.iter().position(|c| c.mime_type == mime).unwrap();
        assert_eq!(router.codecs[of("video/AV1") + 1].mime_type, "video/rtx");
        assert_eq!(router.codecs.len(), 6);
    }

    #[test]
    fn a_room_without_simulcast_takes_one_encoding() {
        let track = |encodings| -> RtpParameters {
            serde_json::from_value(json!({"codecs": [], "encodings": encodings})).unwrap()
        };
        let (one, two) = (track(json!([{"ssrc": 1}])), track(json!([{"rid": "a"}, {"rid": "b"}])));
        let single = rules(json!({"simulcast": false}));
        assert!(single.check(Kind::Video, &one).is_ok());
        let refusal = single.check(Kind::Video, &two).unwrap_err();
        assert_eq!(refusal.field(), "rtpParameters.encodings");
        assert!(rules(json!({"simulcast": true})).check(Kind::Video, &two).is_ok());
    }
}
