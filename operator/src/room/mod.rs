//! Rooms: which node carries each, and when it is over.

pub mod act;
pub mod decide;
pub mod mode;
pub mod observe;
pub mod place;
pub mod report;
pub mod routes;
mod schedule;

pub use act::reconcile;

#[cfg(test)]
mod api_tests;

#[cfg(test)]
mod decide_tests;

#[cfg(test)]
mod empty_call;

#[cfg(test)]
mod empty_promise_tests;

#[cfg(test)]
mod mode_call;

#[cfg(test)]
mod mode_promise_tests;

#[cfg(test)]
mod mode_tests;

#[cfg(test)]
mod mode_trouble_tests;

#[cfg(test)]
mod promise_tests;
