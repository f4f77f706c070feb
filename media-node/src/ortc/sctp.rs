//! SCTP parameters in JSON, and their translation for the core.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::core::{
    command::{Delivery, Reliability},
    data_limits::{MAX_MESSAGE, MAX_STREAMS, PORT},
};

/// How many streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumSctpStreams {
    /// Outgoing, at first.
    #[serde(rename = "OS")]
    pub os: u16,
    /// Incoming, at most.
    #[serde(rename = "MIS")]
    pub mis: u16,
}

impl Default for NumSctpStreams {
    fn default() -> Self {
        Self { os: MAX_STREAMS, mis: MAX_STREAMS }
    }
}

/// The server's end of an SCTP association.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpParameters {
    /// Always 5000.
    pub port: u16,
    /// Streams from the server.
    #[serde(rename = "OS")]
    pub os: u16,
    /// Streams to the server.
    #[serde(rename = "MIS")]
    pub mis: u16,
    /// Largest message in bytes.
    pub max_message_size: usize,
}

impl SctpParameters {
    /// The server's, for what a client wants.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no streams at all.
    pub fn answer(wanted: NumSctpStreams) -> Result<Self, Error> {
        if wanted.os == 0 || wanted.mis == 0 {
            return Err(Error::invalid("numSctpStreams", "must be at least 1 in each direction"));
        }
        let (os, mis) = (wanted.os.min(MAX_STREAMS), wanted.mis.min(MAX_STREAMS));
        Ok(Self { port: PORT, os, mis, max_message_size: MAX_MESSAGE })
    }
}

/// One data channel on an association.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SctpStreamParameters {
    /// Stream.
    pub stream_id: u16,
    /// In the order sent; by default if nothing limits repetition, as mediasoup has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// Milliseconds for which a message is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_packet_life_time: Option<u32>,
    /// How often a message is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retransmits: Option<u32>,
}

impl SctpStreamParameters {
    /// With `ordered` decided.
    ///
    /// # Errors
    /// [`Error::Invalid`] for two limits at once and for a limit above 65535.
    pub fn normalized(&self) -> Result<Self, Error> {
        let limits = [self.max_packet_life_time, self.max_retransmits];
        if limits.iter().all(Option::is_some) {
            let reason = "maxPacketLifeTime and maxRetransmits exclude each other";
            return Err(Error::invalid("sctpStreamParameters", reason));
        }
        if limits.into_iter().flatten().any(|limit| limit > u32::from(u16::MAX)) {
            return Err(Error::invalid("sctpStreamParameters", "maxPacketLifeTime and maxRetransmits go to 65535"));
        }
        let is_limited = limits.into_iter().flatten().any(|limit| limit > 0);
        Ok(Self { ordered: Some(self.ordered.unwrap_or(!is_limited)), ..self.clone() })
    }

    /// What the core does with its messages.
    pub fn delivery(&self) -> Delivery {
        let reliability = match (self.max_packet_life_time, self.max_retransmits) {
            (Some(milliseconds), _) => Reliability::Lifetime(milliseconds),
            (None, Some(count)) => Reliability::Retransmits(count),
            (None, None) => Reliability::Reliable,
        };
        Delivery { ordered: self.ordered.unwrap_or(true), reliability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(json: &str) -> Result<Delivery, String> {
        let parameters: SctpStreamParameters = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(parameters.normalized().map_err(|error| error.to_string())?.delivery())
    }

    #[test]
    fn order_follows_from_the_limits_unless_it_is_stated() {
        for (json, ordered, reliability) in [
            (r#"{"streamId": 0}"#, true, Reliability::Reliable),
            (r#"{"streamId": 1023, "ordered": false}"#, false, Reliability::Reliable),
            (r#"{"streamId": 1, "maxRetransmits": 3}"#, false, Reliability::Retransmits(3)),
            (r#"{"streamId": 1, "ordered": true, "maxPacketLifeTime": 500}"#, true, Reliability::Lifetime(500)),
            (r#"{"streamId": 1, "ordered": false, "maxRetransmits": 0}"#, false, Reliability::Retransmits(0)),
        ] {
            assert_eq!(parameters(json), Ok(Delivery { ordered, reliability }), "{json}");
        }
        assert!(parameters(r#"{"streamId": 1, "maxRetransmits": 0, "maxPacketLifeTime": 0}"#).is_err());
        assert!(parameters(r#"{"streamId": 1, "maxRetransmits": 65536}"#).is_err());
        assert!(parameters(r#"{"streamId": 65536}"#).is_err());
        assert!(parameters("{}").is_err());
    }

    #[test]
    fn streams_are_what_both_ends_have() {
        let answer = SctpParameters::answer(NumSctpStreams { os: 16, mis: 65_535 }).unwrap();
        let json = serde_json::json!({"port": 5000, "OS": 16, "MIS": 1024, "maxMessageSize": 262_144});
        assert_eq!(serde_json::to_value(answer).unwrap(), json);
        assert!(SctpParameters::answer(NumSctpStreams { os: 0, mis: 1 }).is_err());
    }
}
