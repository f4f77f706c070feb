//! What a soak has seen, and whether that is well. Pure.

use std::{collections::BTreeMap, time::Duration};

use callplane_media_node::core::Drop;

/// Memory may go up by this much along the line that fits the second half of the time best, in bytes. A connection costs 17 KB
/// (docs/performance.md): in ten minutes this is a tenth of what the guests of that half bring.
const MOST_DRIFT: f64 = (1 << 20) as f64;
/// And by this much from the highest point of the second quarter to that of the last one, in bytes.
const MOST_RISE: i64 = 2 << 20;
/// No longer than this may nothing come to anybody, on a machine that does other things beside.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// Share of packets of those who stay that may not come, in percent: the kernel's queues are short on a busy machine.
const MOST_LOST: f64 = 1.0;

/// Why packets may be dropped where people come and go. All others would be a fault.
const EXPECTED: &[Drop] = &[
    // Begun to be received between two key frames, or before the subscriber's path stands.
    Drop::ConsumerAwaitsKeyFrame,
    Drop::ConsumerNotConnected,
    Drop::ConsumerTooLate,
    // Sent by guests who have left, and checks of theirs that were still on their way.
    Drop::UnknownTuple,
    Drop::UnknownUfrag,
    Drop::NoKeys,
    Drop::DtlsClosed,
    // Repairs: for what came after all, asked for twice, or too late.
    Drop::RtxRedundant,
    Drop::RtxUnbound,
    Drop::NackMiss,
    Drop::NackSuppressed,
    // A path that is taken for too narrow for a moment, on a busy machine.
    Drop::PacerFull,
    Drop::ConsumerHeld,
];

/// How things stood at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// Resident memory of the node, in bytes.
    pub resident: u64,
    /// RTP packets that came to clients so far.
    pub packets: u64,
}

/// What a soak has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// About one each second, in order.
    pub samples: Vec<Sample>,
    /// Share of packets of those who stay that never came, in percent.
    pub lost: f64,
    /// Dropped packets by reason.
    pub drops: BTreeMap<String, u64>,
    /// Things that exist in the node by name, before the first guest came and after the last one has gone.
    pub objects: Vec<(String, u64, u64)>,
    /// Guests who came, each with two connections.
    pub guests: usize,
    /// Connections of guests that never came to be.
    pub strangers: u64,
}

/// How memory went once everything was there that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    /// Along the line of least squares through the second half of the time: by how much it has gone up at the end of it, in bytes.
    pub drift: f64,
    /// The same for each minute.
    pub per_minute: f64,
    /// From the highest point of the second quarter of the time to that of the last one, in bytes.
    pub rise: i64,
}

/// The trend of the samples; none of less than eight.
pub fn trend(samples: &[Sample]) -> Trend {
    let part = |from: usize, to: usize| &samples[samples.len() * from / 4..samples.len() * to / 4];
    let highest = |part: &[Sample]| part.iter().map(|s| s.resident).max().unwrap_or_default() as i64;
    let half = part(2, 4);
    let [first, .., last] = half else { return Trend::default() };
    if samples.len() < 8 {
        return Trend::default();
    }
    let count = half.len() as f64;
    let (mut mean_at, mut mean_size) = (0.0, 0.0);
    for sample in half {
        mean_at += sample.at.as_secs_f64() / count;
        mean_size += sample.resident as f64 / count;
    }
    let (mut covariance, mut variance) = (0.0, 0.0);
    for sample in half {
        let at = sample.at.as_secs_f64() - mean_at;
        covariance += at * (sample.resident as f64 - mean_size);
        variance += at * at;
    }
    let per_second = if variance > 0.0 { covariance / variance } else { 0.0 };
    Trend {
        drift: per_second * (last.at - first.at).as_secs_f64(),
        per_minute: per_second * 60.0,
        rise: highest(part(3, 4)) - highest(part(1, 2)),
    }
}

/// What is wrong with it; nothing when all is well.
pub fn judge(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let Trend { drift, per_minute, rise } = trend(&seen.samples);
    if drift > MOST_DRIFT {
        wrong.push(format!("memory grows by {:.0} KB a minute", per_minute / 1000.0));
    }
    if rise > MOST_RISE {
        wrong.push(format!("memory has risen by {} KB", rise / 1000));
    }
    let silence = longest_silence(&seen.samples);
    if silence > LONGEST_SILENCE {
        wrong.push(format!("nothing came to anybody for {:.0} s", silence.as_secs_f64()));
    }
    if seen.lost > MOST_LOST {
        wrong.push(format!("{:.2} % of the packets never came", seen.lost));
    }
    if seen.strangers > 0 {
        wrong.push(format!("{} of the guests' {} connections never came to be", seen.strangers, 2 * seen.guests));
    }
    for (reason, count) in &seen.drops {
        if *count > 0 && !EXPECTED.iter().any(|expected| expected.name() == reason) {
            wrong.push(format!("{count} packets were dropped: {reason}"));
        }
    }
    for (name, before, after) in &seen.objects {
        if before != after {
            wrong.push(format!("{name}: {before} before the guests, {after} after them"));
        }
    }
    wrong
}

fn longest_silence(samples: &[Sample]) -> Duration {
    let mut longest = Duration::ZERO;
    let mut heard = samples.first().copied().unwrap_or_default();
    for sample in samples {
        longest = longest.max(sample.at - heard.at);
        if sample.packets > heard.packets {
            heard = *sample;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn steady(seconds: u64) -> Vec<Sample> {
        let sample = |s| Sample { at: Duration::from_secs(s), resident: 40 * MIB, packets: 4000 * s };
        (1..=seconds).map(sample).collect()
    }

    fn with_memory(resident: impl Fn(usize) -> u64) -> Vec<Sample> {
        let mut samples = steady(600);
        samples.iter_mut().enumerate().for_each(|(at, sample)| sample.resident = resident(at));
        samples
    }

    fn complaints(samples: Vec<Sample>) -> Vec<String> {
        judge(&Seen { samples, ..Seen::default() })
    }

    #[test]
    fn a_quiet_soak_has_nothing_wrong_with_it() {
        let objects = vec![("consumers".to_owned(), 80, 80)];
        let drops = BTreeMap::from([("consumer_awaits_key_frame".to_owned(), 70), ("srtp_auth".to_owned(), 0)]);
        let seen = Seen { samples: steady(600), lost: 0.02, drops, objects, guests: 500, strangers: 0 };
        assert_eq!(judge(&seen), [""; 0]);
    }

    #[test]
    fn each_fault_is_named() {
        let mut samples = steady(100);
        for (second, sample) in samples.iter_mut().enumerate() {
            sample.resident += second as u64 * 150_000;
            if (40..50).contains(&second) {
                sample.packets = 160_000;
            }
        }
        let seen = Seen {
            samples,
            lost: 2.0,
            drops: BTreeMap::from([("srtp_auth".to_owned(), 3)]),
            objects: vec![("transports".to_owned(), 20, 22)],
            guests: 9,
            strangers: 1,
        };
        let wrong = judge(&seen);
        assert_eq!(
            wrong,
            [
                "memory grows by 9000 KB a minute",
                "memory has risen by 7500 KB",
                "nothing came to anybody for 11 s",
                "2.00 % of the packets never came",
                "1 of the guests' 18 connections never came to be",
                "3 packets were dropped: srtp_auth",
                "transports: 20 before the guests, 22 after them",
            ]
        );
    }

    #[test]
    fn memory_that_is_taken_at_first_or_swings_is_flat() {
        assert_eq!(complaints(with_memory(|at| if at < 120 { 10 * MIB } else { 40 * MIB })), [""; 0], "warming up");
        assert_eq!(complaints(with_memory(|at| 40 * MIB + (at as u64 % 30) * 60_000)), [""; 0], "up and down");
        assert_eq!(complaints(with_memory(|at| 60 * MIB - at as u64 * 10_000)), [""; 0], "less and less");
    }

    #[test]
    fn a_leak_is_found_whether_slow_late_or_of_a_moment() {
        // 4 KB for each guest, one a second.
        assert_eq!(complaints(with_memory(|at| 40 * MIB + at as u64 * 4096)), ["memory grows by 246 KB a minute"]);
        let late = complaints(with_memory(|at| 40 * MIB + (at as u64).saturating_sub(550) * 100_000));
        assert_eq!(late.len(), 2, "{late:?}");
        assert_eq!(
            complaints(with_memory(|at| if at == 580 { 50 * MIB } else { 40 * MIB })),
            ["memory has risen by 10485 KB"]
        );
    }

    #[test]
    fn too_little_time_says_nothing_of_memory() {
        for seconds in [0, 1, 3, 7] {
            assert_eq!(trend(&steady(seconds)), Trend::default(), "{seconds} samples");
        }
    }
}
