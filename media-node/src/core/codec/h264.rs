//! H264 payloads (RFC 6184).

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether the payload holds a sequence parameter set or the start of an IDR slice: alone, aggregated
/// (§5.7.1) or fragmented (§5.8).
pub(super) fn starts(payload: &[u8]) -> bool {
    let starts = |nal: u8| matches!(nal & 0x1f, IDR | SPS);
    match payload {
        [first, ..] if starts(*first) => true,
        [first, rest @ ..] if first & 0x1f == STAP_A => {
            let mut rest = rest;
            while let [l0, l1, unit @ ..] = rest {
                let len = usize::from(u16::from_be_bytes([*l0, *l1]));
                match unit.first() {
                    Some(nal) if starts(*nal) => return true,
                    _ => {}
                }
                rest = unit.get(len.max(1)..).unwrap_or_default();
            }
            false
        }
        [first, fu, ..] if first & 0x1f == FU_A => fu & 0x80 != 0 && starts(*fu),
        _ => false,
    }
}
