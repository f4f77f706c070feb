//! Decides when a node that was told to stop may do so.
//!
//! Not while anybody is in a call on it. An empty room may be joined again at any moment until the
//! operator has routed it elsewhere, so emptiness has to last a little unless no room is left at all.

use std::time::Duration;

use tokio::time;

use crate::rooms::Directory;

/// How long nobody may have been in any room before the process ends although rooms are routed to it.
const EMPTY_FOR: Duration = Duration::from_secs(10);

/// How often rooms are counted meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why the process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nobody is left.
    Empty,
    /// The time that it was given is over. There are people in calls on it.
    Deadline,
}

/// Waits until the node is empty, or until it had `timeout`.
pub async fn until_empty(directory: &Directory, timeout: Duration) -> Done {
    let empty = async {
        loop {
            directory.wait_empty().await;
            let mut looks = EMPTY_FOR.as_millis() / LOOK_EVERY.as_millis();
            while directory.totals().participants == 0 {
                if directory.totals().rooms == 0 || looks == 0 {
                    return;
                }
                looks -= 1;
                time::sleep(LOOK_EVERY).await;
            }
        }
    };
    match time::timeout(timeout, empty).await {
        Ok(()) => Done::Empty,
        Err(_) => Done::Deadline,
    }
}
