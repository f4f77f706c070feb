//! When packet loss makes a client want the SFU, and when it does not any more. Pure.

use std::{collections::VecDeque, time::Duration};

/// Reports that are looked at, and how many of them must be above the limit.
const REPORTS: usize = 5;
const ABOVE: usize = 3;
/// How long reports above the limit must have gone on.
const LASTING: Duration = Duration::from_secs(5);
/// How long reports must have stayed below the limit until the wish is over.
const RECOVERED: Duration = Duration::from_secs(60);

/// The last reports of one client on the present route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    reports: VecDeque<bool>,
    first_above: Option<Duration>,
    last_above: Option<Duration>,
}

/// What a report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client wants the SFU.
    Wanted,
    /// It was well for long enough.
    Recovered,
    /// Neither.
    Open,
}

impl Window {
    /// A window of a route that begins at `now`. Whoever wanted the SFU does for a while yet.
    pub fn new(now: Duration) -> Self {
        Self { reports: VecDeque::new(), first_above: None, last_above: Some(now) }
    }

    /// Takes a report in.
    pub fn report(&mut self, now: Duration, is_above: bool) -> Verdict {
        self.reports.push_back(is_above);
        if self.reports.len() > REPORTS {
            self.reports.pop_front();
        }
        if is_above {
            self.last_above = Some(now);
            self.first_above.get_or_insert(now);
        }
        let above = self.reports.iter().filter(|above| **above).count();
        if above == 0 {
            self.first_above = None;
        }
        let lasted = self.first_above.is_some_and(|first| now.saturating_sub(first) >= LASTING);
        if is_above && above >= ABOVE && lasted {
            return Verdict::Wanted;
        }
        match self.last_above.is_none_or(|last| now.saturating_sub(last) >= RECOVERED) {
            true => Verdict::Recovered,
            false => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(reports: &[(u64, bool)]) -> Vec<Verdict> {
        let mut window = Window::new(Duration::ZERO);
        reports.iter().map(|(at, above)| window.report(Duration::from_secs(*at), *above)).collect()
    }

    #[test]
    fn a_burst_is_no_reason_and_lasting_loss_is() {
        use Verdict::*;
        assert_eq!(verdicts(&[(1, true), (2, true), (3, true), (4, true)]), [Open; 4], "not for 5 s yet");
        assert_eq!(verdicts(&[(1, true), (3, true), (6, true)]), [Open, Open, Wanted]);
        let each_second: Vec<_> = (1..=6).map(|at| (at, true)).collect();
        assert_eq!(verdicts(&each_second)[4..], [Open, Wanted]);
        let mixed = [(1, true), (3, false), (5, true), (7, false), (9, true)];
        assert_eq!(verdicts(&mixed), [Open, Open, Open, Open, Wanted], "3 of 5");
        let two_of_five = [(1, true), (3, false), (5, false), (7, false), (9, true)];
        assert_eq!(verdicts(&two_of_five), [Open; 5]);
        let long_ago = [(1, true), (20, true), (40, false), (41, false), (42, false), (43, true)];
        assert_eq!(verdicts(&long_ago)[5], Open, "what left the window does not count");
    }

    #[test]
    fn the_wish_is_over_after_a_minute_below_the_limit() {
        use Verdict::*;
        let reports = [(1, true), (3, true), (6, true), (30, false), (65, false), (66, false)];
        assert_eq!(verdicts(&reports), [Open, Open, Wanted, Open, Open, Recovered]);
        assert_eq!(verdicts(&[(59, false), (60, false)]), [Open, Recovered], "a new route starts the minute anew");
    }
}
