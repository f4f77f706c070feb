//! Ports of machines that are given out to nodes.
//!
//! A pod's machine is chosen after its ports, so no two nodes get the same port, on whatever machine they
//! run: a pool with `HostPort` or `HostNetwork` can have as many nodes as its range has room for.

use std::collections::BTreeSet;

use callplane_crds::mediapool::PortRange;

/// The first `count` consecutive ports of `range` of which none is in `taken`.
pub fn free_ports(range: PortRange, count: i32, taken: &BTreeSet<i32>) -> Option<Vec<i32>> {
    let mut from = range.from;
    while from + count - 1 <= range.to {
        match taken.range(from..from + count).next_back() {
            None => return Some((from..from + count).collect()),
            Some(port) => from = port + 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_are_consecutive_and_nobody_elses() {
        let range = PortRange { from: 30_000, to: 30_005 };
        let free = |count, taken: &[i32]| free_ports(range, count, &taken.iter().copied().collect());
        assert_eq!(free(2, &[]), Some(vec![30_000, 30_001]));
        assert_eq!(free(2, &[30_001]), Some(vec![30_002, 30_003]));
        assert_eq!(free(1, &[30_000, 30_001, 30_002, 30_003, 30_004]), Some(vec![30_005]));
        assert_eq!(free(2, &[30_001, 30_003, 30_005]), None);
    }

    proptest! {
        #[test]
        fn a_port_is_never_given_out_twice(counts in prop::collection::vec(1i32..4, 1..30)) {
            let mut taken = BTreeSet::new();
            for count in counts {
                for port in free_ports(PortRange { from: 1024, to: 1060 }, count, &taken).unwrap_or_default() {
                    prop_assert!((1024..=1060).contains(&port) && taken.insert(port));
                }
            }
        }
    }
}
