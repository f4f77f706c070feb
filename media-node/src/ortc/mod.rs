//! Decides what two ends may say to each other in RTP: mediasoup's ORTC rules as pure functions.
//!
//! The JSON types are mediasoup's, so that an unmodified `mediasoup-client` understands them. From a
//! publisher's parameters come the core's [`ProducerSpec`](crate::core::command::ProducerSpec) and what
//! others can consume; from a subscriber's capabilities come its parameters and the core's
//! [`ConsumerSpec`](crate::core::command::ConsumerSpec).

mod capabilities;
mod consume;
mod parameters;
mod produce;
mod profile;
mod sctp;
mod transport;

#[cfg(test)]
mod tests;

pub use capabilities::{router_capabilities, with_video_codecs};
pub use consume::{ConsumerIds, can_consume, consumer_rtp_parameters};
pub(crate) use parameters::Codec;
pub use parameters::{
    Direction, Kind, RtcpFeedback, RtcpParameters, RtpCapabilities, RtpCodecCapability, RtpCodecParameters,
    RtpEncodingParameters, RtpHeaderExtension, RtpHeaderExtensionParameters, RtpParameters, Rtx,
};
pub use produce::{StreamType, consumable, producer_spec};
pub(crate) use produce::{router_codec, router_rtx};
pub use sctp::{NumSctpStreams, SctpParameters, SctpStreamParameters};
pub use transport::{DtlsFingerprint, DtlsParameters, DtlsRoleName, IceCandidate, IceParameters, client_dtls};

/// Why parameters are refused. `field` is a path into the JSON that was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value contradicts the specification or the rest of the parameters.
    #[error("{field}: {reason}")]
    Invalid {
        /// Path, such as `rtpParameters.codecs[0].payloadType`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value is sound, but this node does not do that.
    #[error("{field}: {reason}")]
    Unsupported {
        /// Path, such as `rtpParameters.encodings`.
        field: String,
        /// What is not supported, and what is.
        reason: String,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), reason: reason.into() }
    }

    /// Path of the value that was refused.
    pub fn field(&self) -> &str {
        match self {
            Self::Invalid { field, .. } | Self::Unsupported { field, .. } => field,
        }
    }
}
