//! Calls that begin later.

use jiff::{SignedDuration, Timestamp};

use crate::CallRoom;

/// How long before its scheduled time a call may be placed and joined.
pub const OPENS_BEFORE: SignedDuration = SignedDuration::from_mins(10);

impl CallRoom {
    /// When the call may be placed and joined, if it is scheduled. One that has begun goes on whatever is scheduled since.
    pub fn opens_at(&self) -> Option<Timestamp> {
        let has_begun = self.status.as_ref().is_some_and(|s| s.started_at.is_some() || s.route.is_some());
        let begins = self.spec.scheduled_time.as_ref().filter(|_| !has_begun)?.0;
        Some(begins.checked_sub(OPENS_BEFORE).unwrap_or(Timestamp::MIN))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{CallRoomSpec, CallRoomStatus, Route, RouteMode};

    #[test]
    fn a_call_opens_ten_minutes_before_its_time_unless_it_has_begun() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let scheduled = |begins: Option<Timestamp>, status: Option<CallRoomStatus>| {
            let spec = CallRoomSpec { scheduled_time: begins.map(Time), ..CallRoomSpec::default() };
            CallRoom { status, ..CallRoom::new("r", spec) }.opens_at()
        };
        assert_eq!(scheduled(None, None), None);
        assert_eq!(scheduled(Some(at(6000)), None), Some(at(5400)));
        assert_eq!(scheduled(Some(at(6000)), Some(CallRoomStatus::default())), Some(at(5400)));
        assert_eq!(scheduled(Some(Timestamp::MIN), None), Some(Timestamp::MIN), "there is nothing before");
        let started = CallRoomStatus { started_at: Some(Time(at(0))), ..CallRoomStatus::default() };
        assert_eq!(scheduled(Some(at(6000)), Some(started)), None);
        let route =
            Route { epoch: 1, mode: RouteMode::P2p, node: None, reason: "Scheduled".into(), since: Time(at(0)) };
        let routed = CallRoomStatus { route: Some(route), ..CallRoomStatus::default() };
        assert_eq!(scheduled(Some(at(6000)), Some(routed)), None);
    }
}
