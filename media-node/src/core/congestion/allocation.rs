//! Who gets what of a subscriber's bandwidth. Sound is taken off first and always sent. Then every stream
//! of pictures gets its lowest layers, in order of priority; then what is left raises them layer by layer,
//! again in order of priority, those of one priority by turns. What does not even get its lowest is paused,
//! if it is new or what is sent does harm: an estimate alone is no reason to take a picture away.

/// What is sent already is kept until it exceeds the budget by this: estimates swing around the capacity.
const KEEP: f64 = 1.10;
/// The lowest is kept longer than that: a gap in the picture is worse than a queue that a wrong guess costs.
const KEEP_LOWEST: f64 = 1.30;
/// What is not sent yet must fit with this to spare.
pub(crate) const RAISE: f64 = 1.20;

/// Layers of a stream with what they cost together, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step<L> {
    pub layers: L,
    pub bitrate: f64,
}

/// One stream of pictures that the subscriber wants.
#[derive(Clone, Debug)]
pub(crate) struct Demand<L> {
    /// Higher goes first.
    pub priority: u16,
    /// From the lowest to what is wanted; never empty.
    pub ladder: Vec<Step<L>>,
    /// What it has now, as a place in the ladder.
    pub current: Option<usize>,
    /// It went down so lately that going up again would be a flap.
    pub held: bool,
}

/// Chooses a place in the ladder for each demand; `None` pauses it. `budget`: bits per second for pictures.
/// `harmful`: what is sent is more than the path carries, and lowest layers are no exception any more.
pub(crate) fn allocate<L>(budget: f64, harmful: bool, demands: &[Demand<L>]) -> Vec<Option<usize>> {
    let mut chosen: Vec<Option<usize>> = vec![None; demands.len()];
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(demands[*i].priority));
    let (mut spent, mut risen) = (0.0, false);
    // A step up from what was chosen so far: taken if it fits.
    let mut try_next = |i: usize, chosen: &mut Vec<Option<usize>>| {
        let demand = &demands[i];
        let next = chosen[i].map_or(0, |at| at + 1);
        let Some(step) = demand.ladder.get(next) else { return false };
        let has = demand.current.is_some_and(|current| next <= current);
        if !has && demand.held {
            return false;
        }
        let before = chosen[i].and_then(|at| demand.ladder.get(at)).map_or(0.0, |s| s.bitrate);
        let total = spent - before + step.bitrate;
        let fits = match (has, next) {
            (true, 0) => !harmful || total <= budget * KEEP_LOWEST,
            // Nobody rises on what another one holds beyond the budget.
            (true, _) => total <= if risen { budget } else { budget * KEEP },
            (false, _) => total * RAISE <= budget,
        };
        if fits {
            spent = total;
            risen |= !has;
            chosen[i] = Some(next);
        }
        fits
    };
    for &i in &order {
        try_next(i, &mut chosen);
    }
    for group in order.chunk_by(|a, b| demands[*a].priority == demands[*b].priority) {
        let mut rising: Vec<usize> = group.iter().copied().filter(|i| chosen[*i].is_some()).collect();
        while !rising.is_empty() {
            rising.retain(|i| try_next(*i, &mut chosen));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(priority: u16, bitrates: &[f64], current: Option<usize>) -> Demand<usize> {
        let ladder = bitrates.iter().enumerate().map(|(layers, bitrate)| Step { layers, bitrate: *bitrate }).collect();
        Demand { priority, ladder, current, held: false }
    }

    const SIMULCAST: [f64; 3] = [150.0, 500.0, 1500.0];

    #[test]
    fn the_table() {
        let three = |current: Option<usize>| vec![demand(1, &SIMULCAST, current); 3];
        let speaker = |current| {
            let mut demands = three(current);
            demands[1].priority = 2;
            demands
        };
        for (budget, demands, expected) in [
            // Nothing fits, one fits, all fit low.
            (100.0, three(None), vec![None, None, None]),
            (200.0, three(None), vec![Some(0), None, None]),
            (600.0, three(None), vec![Some(0), Some(0), Some(0)]),
            // By turns, and all of them.
            (1100.0, three(None), vec![Some(1), Some(0), Some(0)]),
            (1900.0, three(None), vec![Some(1), Some(1), Some(1)]),
            (5500.0, three(None), vec![Some(2), Some(2), Some(2)]),
            // The speaker rises first, but not before everybody has the lowest.
            (200.0, speaker(None), vec![None, Some(0), None]),
            (1000.0, speaker(None), vec![Some(0), Some(1), Some(0)]),
            (2200.0, speaker(None), vec![Some(0), Some(2), Some(0)]),
            // What is there stays until it exceeds the budget clearly.
            (1400.0, three(Some(1)), vec![Some(1), Some(1), Some(1)]),
            (1300.0, three(Some(1)), vec![Some(1), Some(1), Some(0)]),
            (1100.0, three(Some(1)), vec![Some(1), Some(1), Some(0)]),
            (700.0, three(Some(1)), vec![Some(0), Some(0), Some(0)]),
        ] {
            assert_eq!(allocate(budget, true, &demands), expected, "{budget} {demands:?}");
        }
    }

    #[test]
    fn nobody_loses_the_picture_to_a_guess() {
        let mut demands =
            vec![demand(2, &[2000.0], Some(0)), demand(1, &SIMULCAST, Some(2)), demand(1, &SIMULCAST, None)];
        assert_eq!(allocate(100.0, false, &demands), [Some(0), Some(0), None]);
        assert_eq!(allocate(100.0, true, &demands), [None, None, None]);
        assert_eq!(allocate(200.0, true, &demands), [None, Some(0), None]);
        demands[0].held = true;
        assert_eq!(allocate(100.0, false, &demands), [Some(0), Some(0), None]);
    }

    #[test]
    fn what_is_held_does_not_rise() {
        let mut demands = vec![demand(1, &SIMULCAST, Some(0))];
        demands[0].held = true;
        assert_eq!(allocate(1e6, true, &demands), [Some(0)]);
        demands[0].current = None;
        assert_eq!(allocate(1e6, true, &demands), [None]);
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_priority_goes_first(
            budget in 0.0f64..5000.0,
            streams in prop::collection::vec(
                (0u16..4, prop::collection::vec(20.0f64..2000.0, 1..6), prop::option::of(0usize..6), any::<bool>()), 0..12),
        ) {
            let demands: Vec<_> = streams.into_iter().map(|(priority, mut bitrates, current, held)| {
                bitrates.sort_by(f64::total_cmp);
                let current = current.map(|c| c.min(bitrates.len() - 1));
                Demand { held, ..demand(priority, &bitrates, current) }
            }).collect();
            let chosen = allocate(budget, true, &demands);
            let cost = |i: usize, at: Option<usize>| at.map_or(0.0, |at| demands[i].ladder[at].bitrate);
            let total: f64 = chosen.iter().enumerate().map(|(i, at)| cost(i, *at)).sum();
            prop_assert!(total <= budget * KEEP_LOWEST + 1e-6);
            for (i, at) in chosen.iter().enumerate() {
                prop_assert!(*at <= demands[i].current || !demands[i].held);
                // A stream is paused only if what was given first left no room for it.
                if at.is_none() && !demands[i].held {
                    let before: f64 = (0..demands.len())
                        .filter(|j| (demands[*j].priority, std::cmp::Reverse(*j)) > (demands[i].priority, std::cmp::Reverse(i)))
                        .map(|j| cost(j, chosen[j].map(|_| 0)))
                        .sum();
                    prop_assert!(RAISE * (before + cost(i, Some(0))) > budget || demands[i].current.is_some());
                }
            }
            // What was chosen once is chosen again: nothing flaps by itself.
            let again: Vec<_> = demands.iter().zip(&chosen).map(|(d, at)| Demand { current: *at, ..d.clone() }).collect();
            let settled = allocate(budget, true, &again);
            let once_more: Vec<_> = again.iter().zip(&settled).map(|(d, at)| Demand { current: *at, ..d.clone() }).collect();
            prop_assert_eq!(allocate(budget, true, &once_more), settled);
        }
    }
}
