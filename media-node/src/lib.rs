//! callplane's media node: one process that forwards the media of the rooms it serves.
//!
//! `core` moves packets and knows neither sockets nor clocks; `net` gives it both. `ortc` decides what
//! two ends may say to each other, `sdp` reads and writes it as session descriptions, `rooms` who is in
//! which room, `auth` whose word counts. `api` puts it on HTTP. `report` is the Kubernetes side.

pub mod api;
pub mod auth;
pub mod config;
pub mod core;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod metrics;
pub mod net;
pub mod node;
pub mod ortc;
pub mod report;
pub mod rooms;
pub mod sdp;
pub mod system;
