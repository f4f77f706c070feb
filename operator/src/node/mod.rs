//! Nodes: which are lost. Their rooms then get their next route elsewhere, most crowded first.

pub mod act;
pub mod decide;
pub mod observe;
pub mod report;

pub use act::reconcile;

#[cfg(test)]
mod api_tests;

#[cfg(test)]
mod hung_tests;
