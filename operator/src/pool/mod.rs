//! Pools: how many media nodes there are, and which one goes.
//!
//! The operator owns nodes and pods one by one (pool → MediaNode → Pod), because only then can it choose.

pub mod act;
pub mod backoff;
pub mod decide;
pub mod objects;
pub mod observe;
pub mod pod;
pub mod ports;
pub mod report;

pub use act::reconcile;

#[cfg(test)]
mod api_tests;

#[cfg(test)]
mod tests;
