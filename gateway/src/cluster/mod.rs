//! What the API server says, and the way to it.

mod cache;
mod kube;
mod secrets;
mod watch;

pub use self::{cache::Cache, kube::Kube, secrets::Secrets, watch::start};
