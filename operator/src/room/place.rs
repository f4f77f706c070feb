//! Placement: of the nodes that can take a room, the best one, or why there is none.
//!
//! A node can take a room when it belongs to a pool that the room allows, lies in its region, stands
//! ready and has the room's whole size free. Among these each pool offers one by its own policy (Packed:
//! the fullest, newest template first; Spread: the emptiest), and the emptiest offer wins.

use std::{collections::BTreeMap, fmt};

use callplane_crds::{load::Demand, medianode::Capacity, mediapool::Placement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster::node::Standing;

/// What a room asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// Name of the pool it must be in.
    pub pool: Option<&'a str>,
    /// Labels of the pools it may be in.
    pub selector: Option<&'a LabelSelector>,
    /// Region it must be in.
    pub region: Option<&'a str>,
    /// Its whole size.
    pub demand: Demand,
}

/// A node that a room might go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Name.
    pub name: &'a str,
    /// Its pool.
    pub pool: &'a str,
    /// Labels of its pool, where there is such a pool.
    pub pool_labels: Option<&'a BTreeMap<String, String>>,
    /// Its region.
    pub region: Option<&'a str>,
    /// Its pool's policy.
    pub placement: Placement,
    /// Made from its pool's present template.
    pub is_newest: bool,
    /// Whether it takes rooms.
    pub standing: Standing,
    /// What it can carry.
    pub capacity: Capacity,
    /// What is taken of it.
    pub committed: Demand,
    /// CPU in use by its own report, in per mille.
    pub cpu_per_mille: i64,
}

/// Why no node could take a room. Each counts the nodes that failed there and at no earlier step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Nodes looked at.
    pub looked_at: u32,
    /// Pools that the room allows.
    pub pools: u32,
    /// In a pool that the room does not allow.
    pub other_pool: u32,
    /// In another region.
    pub other_region: u32,
    /// Not ready, silent, leaving or lost.
    pub not_ready: u32,
    /// Cordoned.
    pub cordoned: u32,
    /// Saturated.
    pub saturated: u32,
    /// Without the room's whole size free.
    pub full: u32,
}

impl Refusal {
    /// As one word for the condition.
    pub const fn reason(&self) -> &'static str {
        if self.pools == 0 && self.other_pool == self.looked_at {
            "NoPoolMatches"
        } else if self.other_region > 0 && self.other_pool + self.other_region == self.looked_at {
            "RegionUnavailable"
        } else if self.cordoned + self.saturated + self.full == 0 {
            "NoReadyNode"
        } else {
            "NoCapacity"
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            "NoPoolMatches" => f.write_str("no MediaPool matches the room's pool or poolSelector")?,
            "RegionUnavailable" => f.write_str("no media node is in the room's region")?,
            "NoReadyNode" => f.write_str("no media node is ready")?,
            _ => f.write_str("no media node has the whole size of the room free")?,
        }
        write!(f, "; looked at {}", self.looked_at)?;
        let classes = [
            (self.other_pool, "of another pool"),
            (self.other_region, "in another region"),
            (self.not_ready, "not ready"),
            (self.cordoned, "cordoned"),
            (self.saturated, "saturated"),
            (self.full, "full"),
        ];
        let mut separator = ": ";
        for (count, class) in classes.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {class}")?;
            separator = ", ";
        }
        f.write_str("; tried again as soon as capacity appears")
    }
}

/// Picks the node for `request`. `allowed_pools` is the number of pools that the request allows.
///
/// # Errors
/// Why there is none.
pub fn pick<'a>(request: &Request<'_>, allowed_pools: u32, candidates: &[Candidate<'a>]) -> Result<&'a str, Refusal> {
    let mut refusal = Refusal { pools: allowed_pools, ..Refusal::default() };
    let mut offers: BTreeMap<&str, (Rank<'a>, &Candidate<'a>)> = BTreeMap::new();
    for candidate in candidates {
        refusal.looked_at += 1;
        if let Some(class) = refusal.class_of(request, candidate) {
            *class += 1;
            continue;
        }
        let rank = Rank::of(request, candidate);
        match offers.get(candidate.pool) {
            Some((best, _)) if *best <= rank => {}
            _ => {
                offers.insert(candidate.pool, (rank, candidate));
            }
        }
    }
    let best = offers.into_values().min_by_key(|(_, c)| (load(request, c), c.name));
    best.map(|(_, candidate)| candidate.name).ok_or(refusal)
}

/// Lower is better, within a pool.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    outdated: bool,
    load: i64,
    name: &'a str,
}

impl<'a> Rank<'a> {
    fn of(request: &Request<'_>, candidate: &Candidate<'a>) -> Self {
        let load = load(request, candidate);
        match candidate.placement {
            // A policy of the future does not keep rooms out.
            Placement::Packed | Placement::Unknown => {
                Self { outdated: !candidate.is_newest, load: -load, name: candidate.name }
            }
            Placement::Spread => Self { outdated: false, load, name: candidate.name },
        }
    }
}

/// How full the node would be, in per mille of its fullest dimension.
fn load(request: &Request<'_>, candidate: &Candidate<'_>) -> i64 {
    candidate.committed.plus(request.demand).per_mille(&candidate.capacity).max(candidate.cpu_per_mille)
}

impl Refusal {
    fn class_of(&mut self, request: &Request<'_>, node: &Candidate<'_>) -> Option<&mut u32> {
        if !request.allows_pool(node.pool, node.pool_labels) {
            return Some(&mut self.other_pool);
        }
        if request.region.is_some() && request.region != node.region {
            return Some(&mut self.other_region);
        }
        match node.standing {
            Standing::NotReady | Standing::Silent | Standing::Leaving | Standing::Lost => Some(&mut self.not_ready),
            Standing::Cordoned => Some(&mut self.cordoned),
            Standing::Saturated => Some(&mut self.saturated),
            Standing::Ready if !node.committed.plus(request.demand).fits(&node.capacity) => Some(&mut self.full),
            Standing::Ready => None,
        }
    }
}

impl Request<'_> {
    /// Whether a node of this pool may carry the room.
    pub fn allows_pool(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        if let Some(pool) = self.pool {
            return pool == name;
        }
        self.selector.is_none_or(|selector| labels.is_some_and(|labels| matches(selector, labels)))
    }
}

/// Whether `labels` satisfy `selector` (Kubernetes API conventions, label selectors).
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let value = labels.get(&e.key);
            let listed = value.is_some_and(|v| e.values.iter().flatten().any(|l| l == v));
            match e.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                // An operator of the future: better no pool than the wrong one.
                _ => false,
            }
        })
}
