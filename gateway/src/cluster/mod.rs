//! What the API server says, and the way to it.

mod cache;
mod kube;
mod watch;

pub use self::{cache::Cache, kube::Kube, watch::start};
