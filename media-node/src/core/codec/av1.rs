//! AV1 payloads without a dependency descriptor (RTP Payload Format For AV1, §4.4).

/// Whether the aggregation header says that a coded video sequence begins here (N), not in the middle of
/// an OBU (Z).
pub(super) fn starts(payload: &[u8]) -> bool {
    const Z: u8 = 0x80;
    const N: u8 = 0x08;
    payload.first().is_some_and(|header| header & (N | Z) == N)
}
