//! What the outside tells the core, and what it hears back.
//!
//! The core keeps packet state only. Participants, tokens, JSON and limits live in `api`, which turns
//! mediasoup's parameters into the flat values below (see `ortc`). Ids, credentials and SSRCs come from
//! the caller, because the core has no randomness of its own.

use std::net::SocketAddr;

use super::stage::RoomLimits;

pub use super::layers::{Layers, ScalabilityMode, UnknownMode};

/// One room on one event loop. Unique within the process, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// One WebRTC transport (an ICE/DTLS/SRTP association with one client). Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(pub u64);

/// One published track. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId(pub u64);

/// One subscription to a producer. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// One published data channel. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataProducerId(pub u64);

/// One subscription to a data channel. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataConsumerId(pub u64);

/// How often, or for how long, a message is sent again (RFC 8831 §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// Until it has arrived.
    Reliable,
    /// At most this often after the first time.
    Retransmits(u32),
    /// For this many milliseconds after it was forwarded.
    Lifetime(u32),
}

/// How messages are delivered on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// In the order sent.
    pub ordered: bool,
    /// What is done about loss.
    pub reliability: Reliability,
}

/// Kind of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// The server's half of the ICE credentials (RFC 8445 §5.3). The ufrag is unique in the process: it is
/// what the first datagrams of a client are demultiplexed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 ICE characters.
    pub ufrag: String,
    /// 22 to 256 ICE characters.
    pub password: String,
}

/// Role of the *client* in the DTLS handshake (RFC 8842). The server takes the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// The client sends the ClientHello (`a=setup:active`).
    Client,
    /// The client waits for ours (`a=setup:passive`).
    Server,
}

/// A certificate fingerprint of the client (RFC 8122).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`, lower case.
    pub algorithm: String,
    /// Digest bytes.
    pub digest: Vec<u8>,
}

/// Header extensions that the core reads or writes; every other one is not negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtensionKind {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    TransportCc,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    AudioLevel,
    /// `urn:3gpp:video-orientation`
    VideoOrientation,
    /// `urn:ietf:params:rtp-hdrext:toffset`
    TransmissionOffset,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    PlayoutDelay,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`: read and
    /// forwarded for AV1 alone.
    DependencyDescriptor,
}

/// A negotiated extension id (RFC 8285), 1 to 14 for the one-byte form, to 255 for the two-byte form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderExtension {
    /// What it carries.
    pub kind: ExtensionKind,
    /// Its id in this direction.
    pub id: u8,
}

/// What the core must know about a payload: where a key frame begins, and what can be rewritten in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// `audio/opus` (RFC 7587).
    Opus,
    /// `audio/red` (RFC 2198): frames of another codec of the producer, each with copies of earlier ones.
    Red,
    /// `video/VP8` (RFC 7741).
    Vp8,
    /// `video/VP9` (RFC 9628).
    Vp9,
    /// `video/H264` (RFC 6184).
    H264,
    /// `video/AV1` (RTP Payload Format For AV1).
    Av1,
    /// Anything else: forwarded as it is; every packet counts as a point where one may start.
    #[default]
    Other,
}

/// One codec of a producer, with the payload types on both sides of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerCodec {
    /// Payload type that the publisher sends.
    pub payload_type: u8,
    /// Payload type of the same codec in the router's capabilities.
    pub router_payload_type: u8,
    /// Which payload format it is.
    pub codec: Codec,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Payload type of the publisher's RTX stream for this codec (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// The publisher answers generic NACK.
    pub nack: bool,
    /// The publisher answers PLI.
    pub pli: bool,
    /// The publisher heeds REMB.
    pub remb: bool,
}

/// One stream of a producer. `ssrc: None` means that it is learned from mid/rid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEncoding {
    /// Signalled SSRC.
    pub ssrc: Option<u32>,
    /// Signalled SSRC of its RTX stream.
    pub rtx_ssrc: Option<u32>,
    /// RTP stream id (RFC 8852).
    pub rid: Option<String>,
    /// How the encoding scales, as far as the publisher says.
    pub scalability: ScalabilityMode,
}

/// What a producer sends, in the publisher's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSpec {
    /// Audio or video.
    pub kind: MediaKind,
    /// `mid` of the publisher's media section.
    pub mid: Option<String>,
    /// Media codecs (RTX is a field of each).
    pub codecs: Vec<ProducerCodec>,
    /// Streams, in mediasoup's order (lowest simulcast layer first).
    pub encodings: Vec<ProducerEncoding>,
    /// Extension ids of the publisher.
    pub header_extensions: Vec<HeaderExtension>,
    /// RTCP CNAME.
    pub cname: Option<String>,
    /// Starts paused: packets are counted and dropped.
    pub paused: bool,
}

/// What a subscriber receives, in the router's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// `mid`, unique in its transport.
    pub mid: String,
    /// Router payload types that the subscriber decodes; packets of any other are dropped.
    pub payload_types: Vec<u8>,
    /// Of these, the ones that the subscriber knows by another number: the router's and its own. Empty for
    /// whoever takes the router's numbers, as mediasoup-client does; an SDP offer brings its own.
    pub renumbered: Vec<(u8, u8)>,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// SSRC of the forwarded stream. One that a parked consumer of the transport had goes on where that
    /// one stopped.
    pub ssrc: u32,
    /// SSRC and payload type of the RTX stream, where the subscriber takes one.
    pub rtx: Option<(u32, u8)>,
    /// The subscriber sends generic NACK.
    pub nack: bool,
    /// Extension ids towards the subscriber.
    pub header_extensions: Vec<HeaderExtension>,
    /// RTCP CNAME.
    pub cname: String,
    /// Starts paused: nothing is sent until `ResumeConsumer`.
    pub paused: bool,
}

/// An order to the core. Orders that name something unknown are ignored: closing races with closing.
#[derive(Clone, Debug)]
pub enum Command {
    /// A new transport that waits for a client.
    CreateTransport {
        /// New id.
        transport: TransportId,
        /// Room whose producers it may consume.
        room: RoomId,
        /// Server's credentials.
        ice: IceCredentials,
    },
    /// Who is heard and seen in a room that has a transport. Nobody is held back before.
    LimitRoom {
        /// Which.
        room: RoomId,
        /// From now on.
        limits: RoomLimits,
    },
    /// The client's DTLS parameters: the handshake may complete from here on.
    ConnectTransport {
        /// Which.
        transport: TransportId,
        /// The client's role.
        role: DtlsRole,
        /// Any one of these must match the client's certificate.
        fingerprints: Vec<Fingerprint>,
    },
    /// New ICE credentials; the old ones stay valid until the first check with the new ones.
    RestartIce {
        /// Which.
        transport: TransportId,
        /// Server's new credentials.
        ice: IceCredentials,
    },
    /// Ends the transport with all its producers and consumers (DTLS close_notify is sent).
    CloseTransport {
        /// Which.
        transport: TransportId,
    },
    /// Publishes.
    Produce {
        /// New id.
        producer: ProducerId,
        /// Transport that receives it.
        transport: TransportId,
        /// Its streams.
        spec: ProducerSpec,
    },
    /// Stops or restarts forwarding of a producer.
    PauseProducer {
        /// Which.
        producer: ProducerId,
        /// New state.
        paused: bool,
    },
    /// Unpublishes; its consumers end too.
    CloseProducer {
        /// Which.
        producer: ProducerId,
    },
    /// Subscribes.
    Consume {
        /// New id.
        consumer: ConsumerId,
        /// Transport that sends it.
        transport: TransportId,
        /// What is forwarded.
        producer: ProducerId,
        /// In which numbers.
        spec: ConsumerSpec,
    },
    /// Stops or restarts sending to a consumer; restarting asks the publisher for a key frame.
    PauseConsumer {
        /// Which.
        consumer: ConsumerId,
        /// New state.
        paused: bool,
    },
    /// Ends a subscription.
    CloseConsumer {
        /// Which.
        consumer: ConsumerId,
    },
    /// Ends a subscription but not its stream, for a subscriber that cannot be told of another SSRC: no
    /// BYE is sent, and the next consumer with its SSRCs continues its numbers.
    ParkConsumer {
        /// Which.
        consumer: ConsumerId,
    },
    /// The highest layers that the consumer is to get. Simulcast switches at the next key frame of the
    /// highest encoding up to the spatial layer that is being received; layers within an encoding are left
    /// out from the next picture on, and come back where a decoder can take them up.
    PreferLayers {
        /// Which.
        consumer: ConsumerId,
        /// Those above what the producer sends mean all of them.
        layers: Layers,
    },
    /// How a consumer of pictures weighs against the client's others where bandwidth is short.
    Prioritize {
        /// Which.
        consumer: ConsumerId,
        /// 1 to 255; one that is higher goes first. 1 until it is set.
        priority: u8,
    },
    /// Asks the publisher for a key frame (coalesced).
    RequestKeyFrame {
        /// For whom.
        consumer: ConsumerId,
    },
    /// Lets the client of a transport speak SCTP.
    EnableSctp {
        /// Which.
        transport: TransportId,
    },
    /// Publishes what comes on a stream.
    ProduceData {
        /// New id.
        data_producer: DataProducerId,
        /// Transport that receives it.
        transport: TransportId,
        /// SCTP stream, 0 to 1023; one data producer each.
        stream: u16,
        /// Whether its messages come in order.
        ordered: bool,
    },
    /// Ends a published data channel; its data consumers end too.
    CloseDataProducer {
        /// Which.
        data_producer: DataProducerId,
    },
    /// Subscribes to a data channel.
    ConsumeData {
        /// New id.
        data_consumer: DataConsumerId,
        /// Transport that sends it.
        transport: TransportId,
        /// What is forwarded.
        data_producer: DataProducerId,
        /// SCTP stream, 0 to 1023; one data consumer each.
        stream: u16,
        /// How.
        delivery: Delivery,
    },
    /// Ends a subscription to a data channel.
    CloseDataConsumer {
        /// Which.
        data_consumer: DataConsumerId,
    },
}

/// Where a transport stands, as mediasoup names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportState {
    /// No valid connectivity check yet.
    New,
    /// A tuple was validated; DTLS is under way.
    Connecting,
    /// DTLS is done and keys are in place.
    Connected,
    /// The client proved no consent for the consent timeout (RFC 7675); it may come back.
    Disconnected,
    /// DTLS failed: wrong fingerprint or protocol error. Final.
    Failed,
    /// The client said goodbye (close_notify) or it was closed. Final.
    Closed,
}

/// News from the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A transport changed its state.
    TransportState {
        /// Which.
        transport: TransportId,
        /// New state.
        state: TransportState,
        /// The validated remote tuple, if any.
        remote: Option<SocketAddr>,
    },
    /// A consumer of a producer with several layers gets other ones now.
    LayersChanged {
        /// Which.
        consumer: ConsumerId,
        /// Its transport.
        transport: TransportId,
        /// Up to these.
        layers: Layers,
    },
    /// The client did not take the messages of a reliable data consumer, which was ended: see
    /// `docs/api.md` for the bounds.
    DataConsumerOverflow {
        /// Its transport.
        transport: TransportId,
        /// Which.
        data_consumer: DataConsumerId,
    },
    /// The client ended its SCTP association, or broke the rules of SCTP. It may begin a new one; data
    /// producers and data consumers of the transport are still there.
    SctpClosed {
        /// Which.
        transport: TransportId,
    },
    /// What the subscribers of a producer want of it has changed, for a while. A producer that is new is
    /// taken to be wanted whole.
    LayersWanted {
        /// Which.
        producer: ProducerId,
        /// Its transport.
        transport: TransportId,
        /// The highest spatial layer that anybody wants; `None`: nobody wants anything.
        spatial: Option<u8>,
    },
    /// The path to a subscriber became too narrow for the least of a consumer's layers, or carries it again.
    BandwidthPaused {
        /// Which.
        consumer: ConsumerId,
        /// Its transport.
        transport: TransportId,
        /// Nothing is sent.
        paused: bool,
    },
    /// Last-N holds a consumer of pictures back, or does so no more.
    OffStage {
        /// Which.
        consumer: ConsumerId,
        /// Its transport.
        transport: TransportId,
        /// Nothing is sent.
        off_stage: bool,
    },
    /// The loudest producer of a room changed (from RFC 6464 audio levels).
    ActiveSpeaker {
        /// Which room.
        room: RoomId,
        /// The producer that speaks now, `None` when nobody has for a while.
        producer: Option<ProducerId>,
    },
}
