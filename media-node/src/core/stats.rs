//! What happened, as numbers. A packet's fate is a value: it is forwarded, consumed, or dropped for a
//! reason that has a name.

/// Declares a fieldless enum whose variants index an array of counters and carry a metric name.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every variant, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name in `snake_case`, for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

named! {
    /// Why a datagram, or a packet that was to be sent, went nowhere.
    Drop {
        /// Longer than any datagram we accept, or empty.
        BadSize = "bad_size",
        /// Sent from an address or port that cannot be answered.
        BadSource = "bad_source",
        /// First byte belongs to no protocol that we speak (RFC 7983).
        UnknownProtocol = "unknown_protocol",
        /// Not a well-formed STUN message.
        MalformedStun = "malformed_stun",
        /// STUN, but no binding request.
        StunNotRequest = "stun_not_request",
        /// USERNAME names no transport of ours.
        UnknownUfrag = "unknown_ufrag",
        /// MESSAGE-INTEGRITY is absent or wrong.
        StunIntegrity = "stun_integrity",
        /// A binding request that came from another tuple before.
        StunReplay = "stun_replay",
        /// The tuple is in use by another transport.
        TupleTaken = "tuple_taken",
        /// No connectivity check has validated this tuple.
        UnknownTuple = "unknown_tuple",
        /// Not a sequence of well-formed DTLS records.
        MalformedDtls = "malformed_dtls",
        /// More handshake datagrams than any handshake needs.
        HandshakeBudget = "handshake_budget",
        /// An alert that nothing authenticates, before the DTLS handshake has finished.
        PlainAlert = "plain_alert",
        /// DTLS for a transport that has failed or was closed.
        DtlsClosed = "dtls_closed",
        /// DTLS application data on a transport without data channels.
        DtlsData = "dtls_data",
        /// Not a well-formed SCTP packet of the association.
        MalformedSctp = "malformed_sctp",
        /// An INIT of an association that is there, or anything else without one.
        SctpUnexpected = "sctp_unexpected",
        /// SCTP chunks that no client needs to send, or far out of sequence.
        SctpRefused = "sctp_refused",
        /// Pieces of messages, or unanswered requests, beyond any bound: the association was ended.
        SctpOverflow = "sctp_overflow",
        /// A data message above 256 KiB.
        DataTooLarge = "data_too_large",
        /// A data message that is neither text nor binary.
        DataUnknownKind = "data_unknown_kind",
        /// A data message on a stream that no data producer is bound to.
        DataUnknownStream = "data_unknown_stream",
        /// A data message for a client without an SCTP association.
        DataNotConnected = "data_not_connected",
        /// A data message for a client that does not take them as fast as they come.
        DataQueueFull = "data_queue_full",
        /// RTP or RTCP before the DTLS handshake has finished.
        NoKeys = "no_keys",
        /// Not a well-formed RTP packet.
        MalformedRtp = "malformed_rtp",
        /// Redundant audio (RFC 2198) whose blocks contradict its length, are too many, or are of another codec than said.
        MalformedRed = "malformed_red",
        /// SSRC that was neither signalled nor can be learned.
        UnknownSsrc = "unknown_ssrc",
        /// The SRTP authentication tag is wrong.
        SrtpAuth = "srtp_auth",
        /// An SRTP packet that was received before.
        SrtpReplay = "srtp_replay",
        /// An SRTP packet older than the replay window.
        SrtpTooOld = "srtp_too_old",
        /// The payload type is none of the producer's.
        UnknownPayloadType = "unknown_payload_type",
        /// RTX without payload: the publisher finds out what its path carries.
        RtxPadding = "rtx_padding",
        /// A packet, or RTX for one, that has arrived already.
        RtxRedundant = "rtx_redundant",
        /// RTX for a stream that is not known yet.
        RtxUnbound = "rtx_unbound",
        /// The producer is paused.
        ProducerPaused = "producer_paused",
        /// Not a well-formed RTCP packet.
        MalformedRtcp = "malformed_rtcp",
        /// The SRTCP authentication tag is wrong.
        SrtcpAuth = "srtcp_auth",
        /// An SRTCP packet that was received before.
        SrtcpReplay = "srtcp_replay",
        /// RTCP from more SSRCs than one client needs.
        RtcpSenders = "rtcp_senders",
        /// Sound of somebody who is not among the loudest.
        NotAmongLoudest = "not_among_loudest",
        /// The subscriber decodes no such payload type.
        ConsumerPayloadType = "consumer_payload_type",
        /// The subscriber waits for a key frame.
        ConsumerAwaitsKeyFrame = "consumer_awaits_key_frame",
        /// Of a layer above those that the consumer gets.
        ConsumerLayer = "consumer_layer",
        /// The network to the consumer permits no video now.
        ConsumerHeld = "consumer_held",
        /// A frame of redundant audio that the subscriber has had: it came late, and a copy of it before.
        ConsumerHasFrame = "consumer_has_frame",
        /// Arrived after the consumer moved on (resume, switch of encodings).
        ConsumerTooLate = "consumer_too_late",
        /// Nobody to send to: the consumer's transport has no keys, no tuple or no consent.
        ConsumerNotConnected = "consumer_not_connected",
        /// A packet index was about to be sealed twice.
        IndexReused = "index_reused",
        /// A NACK for a packet that is no longer in the history.
        NackMiss = "nack_miss",
        /// A NACK that came too soon after the last resend, or over the resend limit.
        NackSuppressed = "nack_suppressed",
        /// So much waits for the subscriber's path already that this packet would come too late.
        PacerFull = "pacer_full",
        /// The socket took no more.
        SendFailed = "send_failed",
    }
}

named! {
    /// Things that are counted.
    Counter {
        /// Datagrams received.
        PacketsIn = "packets_in",
        /// Bytes received, UDP payload.
        BytesIn = "bytes_in",
        /// Datagrams handed to the socket.
        PacketsOut = "packets_out",
        /// Bytes handed to the socket, UDP payload.
        BytesOut = "bytes_out",
        /// Transmits (system calls when segmentation offload works).
        Transmits = "transmits",
        /// RTP packets accepted from publishers, repaired ones included.
        RtpIn = "rtp_in",
        /// RTP packets sealed for subscribers, resent ones included.
        RtpOut = "rtp_out",
        /// RTCP compounds accepted.
        RtcpIn = "rtcp_in",
        /// RTCP compounds sent.
        RtcpOut = "rtcp_out",
        /// Valid connectivity checks.
        Checks = "ice_checks",
        /// Role conflicts answered with 487.
        RoleConflicts = "ice_role_conflicts",
        /// DTLS handshakes that finished.
        HandshakesDone = "dtls_handshakes",
        /// DTLS handshakes that failed.
        HandshakesFailed = "dtls_handshakes_failed",
        /// DTLS flights sent again.
        FlightsRepeated = "dtls_flights_repeated",
        /// Sequence numbers asked for with NACK by subscribers.
        NacksIn = "nacks_in",
        /// Sequence numbers asked for with NACK from publishers.
        NacksOut = "nacks_out",
        /// Packets sent again with RTX.
        ResentRtx = "resent_rtx",
        /// Packets sent again as they were.
        ResentVerbatim = "resent_verbatim",
        /// Lost packets of publishers that came back.
        Recovered = "recovered",
        /// Lost packets of publishers that were given up.
        Lost = "lost",
        /// Streams of publishers that went on under another SSRC.
        SsrcChanges = "ssrc_changes",
        /// Packets that subscribers report as lost.
        LostBySubscribers = "lost_by_subscribers",
        /// PLI and FIR received from subscribers.
        KeyFrameRequestsIn = "key_frame_requests_in",
        /// PLI sent to publishers.
        KeyFrameRequestsOut = "key_frame_requests_out",
        /// Key frames received.
        KeyFrames = "key_frames",
        /// Transport-wide feedback packets sent.
        TransportCcOut = "transport_cc_out",
        /// Transport-wide feedback packets received.
        TransportCcIn = "transport_cc_in",
        /// Changes of the layers that consumers get.
        LayerSwitches = "layer_switches",
        /// Packets of padding in place of late ones of layers that the consumer does not get.
        Filled = "filled",
        /// Data messages received from publishers.
        DataMessagesIn = "data_messages_in",
        /// Data messages queued for subscribers.
        DataMessagesOut = "data_messages_out",
        /// SCTP associations that were established and ended before their transports.
        SctpLost = "sctp_lost",
        /// REMB received.
        RembIn = "remb_in",
        /// REMB sent to publishers.
        RembOut = "remb_out",
        /// Batches that the system refused to segment, so that their datagrams left one by one.
        SegmentationRefused = "segmentation_refused",
        /// Probes for bandwidth towards subscribers.
        Probes = "bandwidth_probes",
        /// Packets of padding that they were made of.
        PaddingOut = "padding_out",
        /// Events that a listener lost because it did not take them.
        EventsLost = "events_lost",
        /// Orders that could not be carried out (unknown names, an SSRC used twice).
        CommandsRefused = "commands_refused",
    }
}

named! {
    /// Things that exist now.
    Gauge {
        /// Transports.
        Transports = "transports",
        /// Transports with keys and consent.
        Connected = "transports_connected",
        /// Producers.
        Producers = "producers",
        /// Consumers.
        Consumers = "consumers",
        /// Published data channels.
        DataProducers = "data_producers",
        /// Subscriptions to data channels.
        DataConsumers = "data_consumers",
        /// Rooms with a transport.
        Rooms = "rooms",
        /// Consumers paused because the path to the subscriber is too narrow for the least of them.
        ConsumersHeld = "consumers_paused_by_bandwidth",
        /// Bits per second that the paths to all subscribers are taken to carry together.
        AvailableOutgoing = "available_outgoing_bitrate",
        /// Bits per second that the paths from all publishers with REMB are taken to carry together.
        AvailableIncoming = "available_incoming_bitrate",
        /// Consumers of layered tracks that were given the lowest spatial layer last.
        SpatialLayer0 = "consumers_of_spatial_layer_0",
        /// The second.
        SpatialLayer1 = "consumers_of_spatial_layer_1",
        /// The third, or one above it.
        SpatialLayer2 = "consumers_of_spatial_layer_2",
        /// Validated tuples.
        Tuples = "tuples",
    }
}

/// What became of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Media that went to this many subscribers (or would have, had there been any).
    Forwarded(usize),
    /// Used up here: STUN, DTLS, RTCP.
    Consumed,
    /// Dropped.
    Dropped(Drop),
}

/// Most datagrams of the transmits that are counted together: one more class holds all that are larger.
pub const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Counters and gauges of one core. Counters only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    counters: [u64; Counter::COUNT],
    drops: [u64; Drop::COUNT],
    gauges: [u64; Gauge::COUNT],
    batches: [u64; BATCHES.len() + 1],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            counters: [0; Counter::COUNT],
            drops: [0; Drop::COUNT],
            gauges: [0; Gauge::COUNT],
            batches: [0; BATCHES.len() + 1],
        }
    }
}

impl Stats {
    /// Number of values that [`Stats::values`] yields.
    pub const LEN: usize = Counter::COUNT + Drop::COUNT + Gauge::COUNT + BATCHES.len() + 1;

    /// A counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Packets dropped for a reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }

    /// A gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize]
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Transmits by how many datagrams they were: up to each of [`BATCHES`] and above the one before, then those above all.
    pub fn batches(&self) -> &[u64] {
        &self.batches
    }

    /// All values in a fixed order, for publication through atomics.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.counters.iter().chain(&self.drops).chain(&self.gauges).chain(&self.batches).copied()
    }

    /// The reverse of [`Stats::values`], added onto `self`; missing values count as zero.
    pub fn add_values(&mut self, values: impl IntoIterator<Item = u64>) {
        let slots = self.counters.iter_mut().chain(&mut self.drops).chain(&mut self.gauges).chain(&mut self.batches);
        for (slot, value) in slots.zip(values) {
            *slot += value;
        }
    }

    pub(crate) fn add(&mut self, counter: Counter, n: u64) {
        self.counters[counter as usize] += n;
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn drop(&mut self, reason: Drop) {
        self.drops[reason as usize] += 1;
    }

    /// A consumer that was given up to `before` is given up to the spatial layer `now`.
    pub(crate) fn layer_moved(&mut self, before: Option<u8>, now: Option<u8>) {
        let gauge = |layer: u8| match layer {
            0 => Gauge::SpatialLayer0,
            1 => Gauge::SpatialLayer1,
            _ => Gauge::SpatialLayer2,
        };
        if let Some(before) = before {
            let count = &mut self.gauges[gauge(before) as usize];
            *count = count.saturating_sub(1);
        }
        if let Some(now) = now {
            self.gauges[gauge(now) as usize] += 1;
        }
    }

    pub(crate) fn sent_together(&mut self, packets: usize) {
        self.batches[BATCHES.partition_point(|most| *most < packets)] += 1;
    }

    pub(crate) fn set(&mut self, gauge: Gauge, value: usize) {
        self.gauges[gauge as usize] = value as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_trip_through_a_flat_list() {
        let mut stats = Stats::default();
        stats.add(Counter::BytesIn, 7);
        stats.drop(Drop::SrtpReplay);
        stats.set(Gauge::Tuples, 3);
        stats.sent_together(8);
        let mut copy = Stats::default();
        copy.add_values(stats.values());
        assert_eq!(copy, stats);
        assert_eq!(stats.values().count(), Stats::LEN);
    }

    #[test]
    fn batches_are_counted_by_their_size() {
        let mut stats = Stats::default();
        for packets in [1, 1, 2, 3, 4, 5, 64, 65, 128] {
            stats.sent_together(packets);
        }
        assert_eq!(stats.batches(), [2, 1, 2, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn names_are_unique_and_snake_case() {
        let names: Vec<_> = Counter::ALL
            .iter()
            .map(|c| c.name())
            .chain(Gauge::ALL.iter().map(|g| g.name()))
            .chain(Drop::ALL.iter().map(|d| d.name()))
            .collect();
        for (i, name) in names.iter().enumerate() {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            assert!(!names[..i].contains(name), "{name} twice");
        }
    }
}
