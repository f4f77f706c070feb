//! A media node as the operator sees it: object, pod, lease, reservations and verdict together.

use std::{sync::Arc, time::Duration};

use callplane_crds::{
    MediaNode,
    condition::{self, Status},
    medianode::ServedRoom,
    names,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};

use super::{
    RoomKey,
    account::Account,
    liveness::{Contact, LeaseState, SeenLease},
};

/// Reason of `Ready=Unknown` on a node that the operator gave up.
pub const NODE_LOST: &str = "NodeLost";

/// How old a node's report may be to prove that the node is empty.
pub const REPORT_VALID: Duration = Duration::from_secs(30);

/// How long after a report arrived calls may be ended on its word. A node that serves rooms reports every 10 s at least.
pub const ATTEST_VALID: Duration = Duration::from_secs(15);

/// Everything known about one media node.
#[derive(Clone, Debug, Default)]
pub struct NodeEntry {
    /// The MediaNode.
    pub object: Option<Arc<MediaNode>>,
    /// What its conditions say, read once when it comes: every decision about a room looks at every node.
    pub says: Says,
    /// Its pod.
    pub pod: PodSight,
    /// Its lease.
    pub lease: Option<SeenLease>,
    /// The operator's verdict.
    pub lost: Option<Lost>,
    /// What is reserved on it.
    pub account: Account,
    /// When its last report arrived.
    pub reported: Option<Duration>,
    /// When its report was last seen to change. What a list shows first may be of any age, so it does not count.
    pub attested: Option<Duration>,
    /// When it was first seen cordoned.
    pub cordoned: Option<Duration>,
    /// UID of the MediaNode that the watch showed and shows no longer.
    pub left: Option<String>,
    /// When the API server itself said that there is no such MediaNode.
    pub gone: Option<Duration>,
    /// When the API server was last asked about what the watches do not show of it.
    pub asked: Option<Duration>,
}

/// What the conditions of a MediaNode say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// `Ready` holds.
    pub ready: bool,
    /// `Saturated` holds.
    pub saturated: bool,
    /// `Ready` is `Unknown` because the operator gave it up.
    pub lost: bool,
}

impl Says {
    /// What `node` says.
    pub fn of(node: &MediaNode) -> Self {
        let conditions = node.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let given_up = |c: &Condition| {
            c.type_ == condition::node::READY && c.status == Status::Unknown.as_str() && c.reason == NODE_LOST
        };
        Self {
            ready: condition::is_true(conditions, condition::node::READY),
            saturated: condition::is_true(conditions, condition::node::SATURATED),
            lost: conditions.iter().any(given_up),
        }
    }
}

/// The operator's verdict that a node carries no calls any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was given.
    pub since: Duration,
    /// Why.
    pub cause: LossCause,
    /// `renewTime` of the lease then: another one means that the node is back.
    pub renewed: Option<jiff::Timestamp>,
}

/// Why a node is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Its pod ended, as the text says. It cannot come back.
    PodEnded(String),
    /// Its pod is gone. It cannot come back.
    PodGone,
    /// Its lease expired and it does not answer either.
    Silent,
}

impl LossCause {
    /// Whether the node can never serve again.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Silent)
    }
}

impl std::fmt::Display for LossCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PodEnded(how) => write!(f, "its pod ended: {how}"),
            Self::PodGone => f.write_str("its pod is gone"),
            Self::Silent => f.write_str("its lease expired and it answers no probe"),
        }
    }
}

/// A node's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodSight {
    /// None was seen yet.
    #[default]
    Unseen,
    /// It is there.
    There {
        /// `metadata.uid`.
        uid: String,
        /// All containers are ready.
        ready: bool,
        /// It was told to stop.
        terminating: bool,
    },
    /// The watch shows it no longer. Deleted, or only relabelled: the watch selects by label and cannot tell.
    Left {
        /// `metadata.uid`, if it was seen.
        uid: Option<String>,
    },
    /// Its media node ended, as the text says.
    Ended(String),
    /// It was deleted, as the API server itself says.
    Gone,
}

impl PodSight {
    /// What `pod` is.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        // A pod with restartPolicy Never serves nothing once its container has ended, whatever its phase still says.
        let ended = status.and_then(|s| s.container_statuses.as_ref()).and_then(|containers| {
            // Only its own: an injected sidecar may come and go.
            containers.iter().filter(|c| c.name == names::MEDIA_NODE_COMPONENT).find_map(|c| {
                let end = c.state.as_ref()?.terminated.as_ref()?;
                let reason = end.reason.as_deref().unwrap_or("Unknown");
                Some(format!("container {} ended with exit code {} ({reason})", c.name, end.exit_code))
            })
        });
        match (ended, phase) {
            (Some(how), _) => Self::Ended(how),
            (None, "Failed" | "Succeeded") => {
                let reason = status.and_then(|s| s.reason.clone().or_else(|| s.message.clone()));
                Self::Ended(format!("pod {phase} ({})", reason.as_deref().unwrap_or("no reason given")))
            }
            _ => Self::There {
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                ready: status
                    .and_then(|s| s.conditions.as_ref())
                    .is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True")),
                terminating: pod.metadata.deletion_timestamp.is_some(),
            },
        }
    }
}

/// Whether a node takes rooms, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It does.
    Ready,
    /// It says itself that it is not ready, or has not said anything yet.
    NotReady,
    /// Its lease was not renewed.
    Silent,
    /// It is cordoned.
    Cordoned,
    /// It is too busy.
    Saturated,
    /// It is being stopped.
    Leaving,
    /// It is lost.
    Lost,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Ready, Self::NotReady, Self::Silent, Self::Cordoned, Self::Saturated, Self::Leaving, Self::Lost];
}

/// Whether a room can be where its route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The node is there as far as anyone can tell.
    Serving,
    /// The operator gave it up.
    Lost,
    /// There is no such MediaNode: the API server said so when it was asked.
    Gone,
    /// The watch does not show it. It may merely be late, so nothing follows from that.
    Unseen,
}

impl Life {
    /// Whether calls there have to go on elsewhere.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Lost | Self::Gone)
    }
}

impl NodeEntry {
    /// Whether the operator made it, and so its pod is to be expected.
    pub fn is_managed(&self) -> bool {
        self.object.as_ref().is_some_and(|n| {
            n.metadata.owner_references.as_ref().is_some_and(|o| o.iter().any(|o| o.kind == "MediaPool"))
        })
    }

    /// Whether nothing shows that it ever ran: no report, now or seen earlier, no lease, and no pod that got as far as to be
    /// ready. Each is written by another, so whoever takes one of them away does not make a node with people on it blank.
    pub fn is_blank(&self) -> bool {
        let unready = matches!(self.pod, PodSight::Unseen | PodSight::There { ready: false, .. });
        let has_reported = self.object.as_ref().is_some_and(|node| node.has_reported());
        unready && !has_reported && self.reported.is_none() && self.lease.is_none()
    }

    /// Whether a room can be there.
    pub fn life(&self) -> Life {
        match &self.object {
            None if self.gone.is_some() => Life::Gone,
            None => Life::Unseen,
            Some(_) if self.lost.is_some() || self.says.lost => Life::Lost,
            Some(_) => Life::Serving,
        }
    }

    /// What its lease says.
    pub fn lease_state(&self, contact: &Contact, now: Duration) -> LeaseState {
        contact.judge(self.lease.as_ref(), now)
    }

    /// Whether it takes rooms.
    pub fn standing(&self, contact: &Contact, now: Duration) -> Standing {
        let Some(node) = &self.object else { return Standing::NotReady };
        if self.life() != Life::Serving {
            return Standing::Lost;
        }
        // A pod that the watch shows no longer may be alive, but no room should count on it.
        let leaves = matches!(self.pod, PodSight::There { terminating: true, .. } | PodSight::Left { .. });
        if node.metadata.deletion_timestamp.is_some() || leaves {
            return Standing::Leaving;
        }
        if !self.says.ready {
            return Standing::NotReady;
        }
        match self.lease_state(contact, now) {
            LeaseState::Fresh(_) => {}
            // While we hear nobody, every lease looks old. A room must not wait for that: the node serves it or a later route will.
            LeaseState::Unheard(_) if !contact.is_current(now) => {}
            _ => return Standing::Silent,
        }
        if node.spec.cordoned {
            return Standing::Cordoned;
        }
        if self.says.saturated {
            return Standing::Saturated;
        }
        Standing::Ready
    }

    /// Whether calls may be ended on the word of its latest report: the report is new, and the node can still write.
    pub fn attests(&self, contact: &Contact, now: Duration) -> bool {
        self.attested.is_some_and(|at| now.saturating_sub(at) <= ATTEST_VALID)
            && matches!(self.lease_state(contact, now), LeaseState::Fresh(_))
    }

    /// What it reported about `room`.
    pub fn served(&self, room: &RoomKey) -> Option<&ServedRoom> {
        let rooms = &self.object.as_ref()?.status.as_ref()?.rooms;
        rooms.iter().find(|r| r.name == room.name && r.namespace == room.namespace)
    }

    /// Its own count of rooms and people, if it reported within [`REPORT_VALID`]: unknown is not zero.
    pub fn fresh_counts(&self, now: Duration) -> Option<(usize, i64)> {
        self.reported.filter(|at| now.saturating_sub(*at) <= REPORT_VALID)?;
        let status = self.object.as_ref()?.status.as_ref()?;
        let listed: i64 = status.rooms.iter().map(|r| i64::from(r.participants)).sum();
        let load = status.load.as_ref()?;
        Some((status.rooms.len().max(usize::try_from(load.rooms).unwrap_or(0)), listed.max(load.participants.into())))
    }
}
