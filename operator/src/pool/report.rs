//! What a pool's status says, and who is told.

use callplane_crds::{
    MediaPoolStatus,
    condition::{self, Status, condition},
    load::Demand,
    names::POOL_LABEL,
};

use super::{
    decide::{Hindrance, Plan, Step},
    observe::World,
};
use crate::{
    clock::Now,
    cluster::node::{PodSight, Standing},
};

/// The status of the pool as `world` shows it and `plan` explains it.
pub fn status(world: &World, plan: &Plan, now: Now) -> MediaPoolStatus {
    let count = |of: &dyn Fn(&super::observe::NodeSight) -> bool| {
        i32::try_from(world.nodes.iter().filter(|n| of(n)).count()).unwrap_or(i32::MAX)
    };
    let serves = |s: Standing| matches!(s, Standing::Ready | Standing::Cordoned | Standing::Saturated);
    let wanted = world.pool.spec.replicas;
    let ready = count(&|n| serves(n.standing) && !n.is_surplus);
    let generation = world.pool.metadata.generation;
    let current = world.pool.status.clone().unwrap_or_default();
    let condition = |type_, status, reason: &str, message: String| {
        condition(&current.conditions, type_, status, reason, message, generation, now.wall_seconds())
    };

    let nodes = format!("{ready} of {wanted} media nodes are ready");
    let unready = match &plan.hindrance {
        Some(Hindrance::Crashes(until)) => {
            let at = now.wall + until.saturating_sub(now.mono);
            let crashes = &world.crashes;
            let next = at.strftime("%H:%M:%SZ");
            Some((
                "PodsCrash",
                format!("{nodes}; {} crashes in a row, the last: {}; next try at {next}", crashes.count, crashes.what),
            ))
        }
        Some(Hindrance::NoPorts) => Some((
            "NoPorts",
            format!("{nodes}; all ports of reachability.ports are given out: widen the range or lower replicas"),
        )),
        Some(Hindrance::UnknownReachability) => Some((
            "UnknownReachability",
            format!(
                "{nodes}; this operator does not know reachability.mode: it is older than the MediaPool's definition"
            ),
        )),
        None => None,
    };
    let available = if ready >= wanted {
        condition(condition::pool::AVAILABLE, Status::True, "NodesReady", nodes)
    } else {
        let (reason, message) = unready.clone().unwrap_or(("NodesStarting", nodes));
        condition(condition::pool::AVAILABLE, Status::False, reason, message)
    };
    let starting = count(&|n| {
        !n.object.has_reported() && !matches!(n.pod, PodSight::Left { .. } | PodSight::Ended(_) | PodSight::Gone)
    });
    let leaving = count(&|n| n.is_surplus || n.standing == Standing::Leaving);
    let moving = starting + leaving > 0 || plan.steps.iter().any(|s| !matches!(s, Step::Resize { .. }));
    let progressing = match unready {
        Some((reason, message)) => condition(condition::pool::PROGRESSING, Status::False, reason, message),
        None if moving => {
            let message = format!("{starting} media nodes start, {leaving} empty out");
            condition(condition::pool::PROGRESSING, Status::True, "Scaling", message)
        }
        None => condition(condition::pool::PROGRESSING, Status::False, "Settled", String::new()),
    };
    MediaPoolStatus {
        observed_generation: generation,
        replicas: i32::try_from(world.nodes.len()).unwrap_or(i32::MAX),
        ready_replicas: ready,
        cordoned_replicas: count(&|n| n.object.spec.cordoned),
        utilization_percent: utilization(world),
        selector: Some(format!("{POOL_LABEL}={}", world.pool.metadata.name.as_deref().unwrap_or_default())),
        conditions: vec![available, progressing],
    }
}

/// Share of the ready nodes' capacity that is taken, in percent of the fullest dimension.
fn utilization(world: &World) -> i32 {
    let mut taken = Demand::default();
    let mut capacity = Demand::default();
    for node in world.nodes.iter().filter(|n| n.standing == Standing::Ready || n.standing == Standing::Saturated) {
        let of = &node.object.spec.capacity;
        taken = taken.plus(node.committed);
        capacity =
            capacity.plus(Demand { rooms: of.rooms.into(), participants: of.participants.into(), streams: of.streams });
    }
    let share = |used: i64, of: i64| if of == 0 { 0 } else { used * 100 / of };
    let fullest = share(taken.rooms, capacity.rooms)
        .max(share(taken.participants, capacity.participants))
        .max(share(taken.streams, capacity.streams));
    i32::try_from(fullest).unwrap_or(i32::MAX)
}
