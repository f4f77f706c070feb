//! Which nodes a pool makes, spares, cordons and lets go.
//!
//! A node goes only when it is cordoned, no room's route names it and it says itself that nobody is on it;
//! or when its pod is dead. What is not known about a node is never counted as nothing.

use std::{collections::BTreeSet, time::Duration};

use callplane_crds::mediapool::ReachabilityMode;

use super::{
    observe::{NodeSight, World},
    ports::free_ports,
};
use crate::{
    clock::Now,
    cluster::node::{LossCause, PodSight, Standing},
};

/// Nodes made in one pass. The next pass follows at once.
pub const CREATE_BATCH: usize = 16;
/// For how long a node has to have been cordoned before it may go. By then a former leader that had not
/// seen the cordon can write no route any more (its claim and its last request have run out).
pub const CORDON_AGE: Duration = Duration::from_secs(20);
/// For how long a silent node's pod is kept: its machine may come back, and the evidence is worth it.
pub const SILENT_KEPT: Duration = Duration::from_secs(300);

/// How soon a new node's pod is to be seen.
pub const POD_EXPECTED: Duration = Duration::from_secs(3);

/// One step. Carried out in order; the pass ends at the first that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a node with these ports, and its pod.
    Create {
        /// Ports of the machine.
        ports: Vec<i32>,
    },
    /// Make the pod of a node that has none.
    CreatePod {
        /// Its name.
        node: String,
    },
    /// Take a surplus node back.
    Uncordon {
        /// Its name.
        node: String,
    },
    /// Let no further room onto a node that is too many.
    Cordon {
        /// Its name.
        node: String,
    },
    /// Bring a node's capacity up to date.
    Resize {
        /// Its name.
        node: String,
    },
    /// Delete an empty surplus node. Checked again with the API server before it is done.
    Remove {
        /// Its name.
        node: String,
    },
    /// Delete a dead node.
    Bury {
        /// Its name.
        node: String,
        /// What it died of.
        cause: LossCause,
    },
}

/// Why fewer nodes are made than are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Pods crash; the next try is at this time.
    Crashes(Duration),
    /// No port of the range is free.
    NoPorts,
    /// This version does not know how the pool's nodes are to be reached.
    UnknownReachability,
}

/// What to do for a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Why it is not more.
    pub hindrance: Option<Hindrance>,
    /// Look again after this time.
    pub again: Option<Duration>,
}

/// Decides about one pool.
pub fn decide(world: &World, now: Now) -> Plan {
    let mut steps = Vec::new();
    let mut again: Option<Duration> = None;
    let mut look_after = |rest: Duration| again = Some(again.map_or(rest, |a| a.min(rest)));
    let wanted = usize::try_from(world.pool.spec.replicas).unwrap_or(0);

    let (dead, living): (Vec<&NodeSight>, Vec<&NodeSight>) =
        world.nodes.iter().filter(|n| n.object.metadata.deletion_timestamp.is_none()).partition(|n| is_dead(n, now));
    for node in dead {
        steps.push(Step::Bury { node: node.name.clone(), cause: cause_of(node) });
    }
    let is_known = world.pool.spec.reachability.mode != ReachabilityMode::Unknown;
    for node in &living {
        if let Some((since, _)) = node.lost {
            look_after((since + SILENT_KEPT).saturating_sub(now.mono));
        } else if node.pod == PodSight::Unseen && node.is_blank && is_known {
            // Its pod is made right after it; this is for when that was interrupted.
            match node.age(now).and_then(|age| POD_EXPECTED.checked_sub(age)) {
                Some(rest) if !rest.is_zero() => look_after(rest),
                _ => steps.push(Step::CreatePod { node: node.name.clone() }),
            }
        }
        if node.object.spec.capacity != world.pool.spec.capacity {
            steps.push(Step::Resize { node: node.name.clone() });
        }
    }

    // A silent node may be gone for good: it is replaced at once, and is surplus should it come back.
    let active: Vec<&NodeSight> =
        living.iter().copied().filter(|n| n.lost.is_none() && !n.is_surplus && !is_leaving(n)).collect();
    let surplus: Vec<&NodeSight> = living.iter().copied().filter(|n| n.lost.is_none() && n.is_surplus).collect();
    let mut hindrance = None;
    let mut taken_back = BTreeSet::new();
    if active.len() < wanted {
        let mut missing = wanted - active.len();
        for node in back_first(&surplus).into_iter().take(missing) {
            taken_back.insert(node.name.as_str());
            steps.push(Step::Uncordon { node: node.name.clone() });
            missing -= 1;
        }
        hindrance = create(world, missing, now, &mut steps);
        if let Some(Hindrance::Crashes(until)) = hindrance {
            look_after(until.saturating_sub(now.mono));
        }
    }
    for node in goes_first(&active).into_iter().take(active.len().saturating_sub(wanted)) {
        steps.push(Step::Cordon { node: node.name.clone() });
        look_after(CORDON_AGE);
    }
    for node in surplus.into_iter().filter(|n| !taken_back.contains(n.name.as_str())) {
        match node.cordoned_for.and_then(|age| CORDON_AGE.checked_sub(age)).filter(|rest| !rest.is_zero()) {
            Some(rest) => look_after(rest),
            None if is_empty(node) => steps.push(Step::Remove { node: node.name.clone() }),
            None => look_after(CORDON_AGE),
        }
    }
    Plan { steps, hindrance, again }
}

fn create(world: &World, missing: usize, now: Now, steps: &mut Vec<Step>) -> Option<Hindrance> {
    if missing == 0 {
        return None;
    }
    if world.pool.spec.reachability.mode == ReachabilityMode::Unknown {
        return Some(Hindrance::UnknownReachability);
    }
    let not_before = world.crashes.not_before();
    if now.mono < not_before {
        return Some(Hindrance::Crashes(not_before));
    }
    let spec = &world.pool.spec;
    let workers = spec.template.workers.unwrap_or(super::pod::DEFAULT_WORKERS);
    let mut taken = world.taken_ports.clone();
    for _ in 0..missing.min(CREATE_BATCH) {
        let ports = match (spec.reachability.mode, spec.reachability.ports) {
            (ReachabilityMode::Pod | ReachabilityMode::Unknown, _) | (_, None) => Vec::new(),
            (_, Some(range)) => match free_ports(range, workers, &taken) {
                Some(ports) => ports,
                None => return Some(Hindrance::NoPorts),
            },
        };
        taken.extend(&ports);
        steps.push(Step::Create { ports });
    }
    None
}

fn is_dead(node: &NodeSight, now: Now) -> bool {
    match (&node.pod, &node.lost) {
        (PodSight::Ended(_) | PodSight::Gone, _) => true,
        (_, Some((_, cause))) if cause.is_final() => true,
        (_, Some((since, _))) => now.mono.saturating_sub(*since) >= SILENT_KEPT,
        _ => false,
    }
}

fn cause_of(node: &NodeSight) -> LossCause {
    match (&node.pod, &node.lost) {
        (PodSight::Ended(how), _) => LossCause::PodEnded(how.clone()),
        (PodSight::Gone, _) | (_, None) => LossCause::PodGone,
        (_, Some((_, cause))) => cause.clone(),
    }
}

/// A pod that is merely not shown any more is neither leaving nor dead before the API server says so.
fn is_leaving(node: &NodeSight) -> bool {
    node.standing == Standing::Leaving && !matches!(node.pod, PodSight::Left { .. })
}

/// Nothing is routed there, and the node agrees or never ran.
pub fn is_empty(node: &NodeSight) -> bool {
    node.routed == 0 && (node.is_blank || node.counted == Some((0, 0)))
}

/// Surplus nodes in the order in which they are taken back: those that carry most.
fn back_first<'a>(surplus: &[&'a NodeSight]) -> Vec<&'a NodeSight> {
    let mut order = surplus.to_vec();
    order.sort_by_key(|n| (std::cmp::Reverse((n.routed, people(n))), n.name.clone()));
    order
}

/// Active nodes in the order in which they go: those that carry least. One that carries nobody knows what is not among them.
fn goes_first<'a>(active: &[&'a NodeSight]) -> Vec<&'a NodeSight> {
    let mut order: Vec<&NodeSight> =
        active.iter().copied().filter(|n| n.counted.is_some() || (n.is_blank && n.routed == 0)).collect();
    order.sort_by_key(|n| (!n.is_blank, !n.object.spec.cordoned, n.routed, people(n), n.name.clone()));
    order
}

fn people(node: &NodeSight) -> i64 {
    node.counted.map_or(0, |(_, people)| people)
}
