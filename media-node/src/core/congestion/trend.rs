//! Whether the delay grows: a line through the last delays, against a threshold that adapts to what is
//! usual on the path (draft-ietf-rmcat-gcc-02 §5.4; the line instead of a Kalman filter as in libwebrtc;
//! Carlucci et al., "Congestion control for web real-time communication", 2017).

use super::groups::Spacing;

/// Points of the line.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Slopes are tiny; this makes them comparable to milliseconds.
const GAIN: f64 = 4.0;
/// More groups than this add no certainty.
const MOST_GROUPS: f64 = 60.0;
/// Threshold in milliseconds: at first, and its bounds. (libwebrtc goes down to 6; a layer that is added makes
/// a step in the delay that is no trend.)
const INITIAL_THRESHOLD: f64 = 12.5;
const THRESHOLDS: (f64, f64) = (9.0, 600.0);
/// How fast the threshold rises to what lies above it and falls to what lies below.
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;
/// A spike this far above the threshold does not move it.
const SPIKE: f64 = 15.0;
/// The delay must have grown for this long, in milliseconds.
const OVERUSE_TIME: f64 = 10.0;

/// What the path does with what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Delay is steady.
    #[default]
    Normal,
    /// Delay grows: more is sent than the path carries.
    Over,
    /// Delay falls: a queue drains.
    Under,
}

/// The line and the threshold.
#[derive(Debug)]
pub(crate) struct Trend {
    /// Arrival in milliseconds since the first, and smoothed delay.
    points: [(f64, f64); WINDOW],
    filled: usize,
    origin: Option<i64>,
    groups: f64,
    accumulated: f64,
    smoothed: f64,
    last: f64,
    threshold: f64,
    over_for: f64,
    over_count: u32,
    updated: Option<f64>,
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            points: [(0.0, 0.0); WINDOW],
            filled: 0,
            origin: None,
            groups: 0.0,
            accumulated: 0.0,
            smoothed: 0.0,
            last: 0.0,
            threshold: INITIAL_THRESHOLD,
            over_for: 0.0,
            over_count: 0,
            updated: None,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Another pair of groups.
    pub fn add(&mut self, spacing: Spacing) {
        let sent = spacing.sent as f64 / 1000.0;
        let arrived = spacing.arrived as f64 / 1000.0;
        let at = (spacing.at - *self.origin.get_or_insert(spacing.at)) as f64 / 1000.0;
        self.groups = (self.groups + 1.0).min(1000.0);
        self.accumulated += arrived - sent;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        if self.filled == WINDOW {
            self.points.copy_within(1.., 0);
            self.filled -= 1;
        }
        self.points[self.filled] = (at, self.smoothed);
        self.filled += 1;
        if self.filled == WINDOW
            && let Some(slope) = slope(&self.points)
        {
            self.judge(slope, sent, at);
        }
    }

    fn judge(&mut self, slope: f64, sent: f64, at: f64) {
        let trend = self.groups.min(MOST_GROUPS) * slope * GAIN;
        if trend > self.threshold {
            // The first time, it may have begun anywhere since the last group.
            self.over_for += if self.over_count == 0 { sent / 2.0 } else { sent };
            self.over_count += 1;
            if self.over_for > OVERUSE_TIME && self.over_count > 1 && slope >= self.last {
                self.over_for = 0.0;
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_for = 0.0;
            self.over_count = 0;
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.last = slope;
        self.adapt(trend.abs(), at);
    }

    fn adapt(&mut self, trend: f64, at: f64) {
        let passed = (at - self.updated.replace(at).unwrap_or(at)).clamp(0.0, 100.0);
        if trend <= self.threshold + SPIKE {
            let speed = if trend < self.threshold { FALL } else { RISE };
            self.threshold += speed * (trend - self.threshold) * passed;
            self.threshold = self.threshold.clamp(THRESHOLDS.0, THRESHOLDS.1);
        }
    }
}

/// Least squares; `None` if all points are at one time.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points
        .iter()
        .fold((0.0, 0.0), |(above, below), p| (above + (p.0 - x) * (p.1 - y), below + (p.0 - x) * (p.0 - x)));
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups 33 ms apart that arrive `growth` microseconds later each time.
    fn feed(trend: &mut Trend, count: i64, from: &mut i64, growth: i64) -> Vec<Usage> {
        (0..count)
            .map(|_| {
                *from += 33_000 + growth;
                trend.add(Spacing { sent: 33_000, arrived: 33_000 + growth, at: *from });
                trend.usage()
            })
            .collect()
    }

    #[test]
    fn a_growing_delay_is_overuse_and_a_falling_one_underuse() {
        let (mut trend, mut at) = (Trend::default(), 0);
        assert!(feed(&mut trend, 60, &mut at, 0).iter().all(|u| *u == Usage::Normal));
        let growing = feed(&mut trend, 30, &mut at, 3_000);
        assert!(growing.iter().position(|u| *u == Usage::Over).is_some_and(|at| at < 20), "{growing:?}");
        let falling = feed(&mut trend, 30, &mut at, -3_000);
        assert!(falling.contains(&Usage::Under), "{falling:?}");
        let steady = feed(&mut trend, 60, &mut at, 0);
        assert_eq!(steady.last(), Some(&Usage::Normal));
    }

    #[test]
    fn jitter_without_a_trend_is_none() {
        let (mut trend, mut at) = (Trend::default(), 0);
        for round in 0..200 {
            let up = 1_000 + (round * 7919) % 4_000;
            let seen = feed(&mut trend, 1, &mut at, up).into_iter().chain(feed(&mut trend, 1, &mut at, -up));
            assert!(seen.into_iter().all(|u| u != Usage::Over), "{round}");
        }
    }
}
