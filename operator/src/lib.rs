//! The operator: where rooms run, how media flows, and how much capacity there is.
//!
//! Controllers `room`, `node` and `pool`, each observe → decide → act → report. Deciding is pure: a function
//! of what the [`cluster`] index holds and of the time it is told. Everything that is written goes through
//! one [`api::Writer`], which asks the leader's claim first; only Kubernetes events, by which nothing is decided, do not.
//!
//! # Rights
//!
//! What the operator asks of the API server, and nothing else. In every namespace (or in the one of `--watch-namespace`):
//!
//! | group | resource | verbs |
//! |---|---|---|
//! | `callplane.io` | `callrooms` | get, list, watch, delete |
//! | `callplane.io` | `callrooms/status` | patch |
//! | `events.k8s.io` | `events` | create, patch |
//! | | `secrets` | patch, create, delete: rooms' TURN credentials, never get; what else that would allow, an admission policy forbids |
//!
//! In its own namespace:
//!
//! | group | resource | verbs |
//! |---|---|---|
//! | `callplane.io` | `mediapools` | list, watch |
//! | `callplane.io` | `mediapools/status` | patch |
//! | `callplane.io` | `medianodes` | get, list, watch, create, patch, delete |
//! | `callplane.io` | `medianodes/status` | patch |
//! | | `pods` | get, list, watch, create |
//! | `policy` | `poddisruptionbudgets` | get, create, update |
//! | `coordination.k8s.io` | `leases` | get, list, watch, create, update |
//! | | `secrets` | create; get on `callplane-join-keys`, `callplane-join-public`, `callplane-turn`, `callplane-coturn`, `callplane-redis`, `callplane-postgresql`; patch on `callplane-join-public`, `callplane-coturn`; update on `callplane-join-keys`, `callplane-turn` |
//!
//! `apply-crds` needs get, create and update on `customresourcedefinitions`; `self-test` needs get, list,
//! watch, create and delete on `callrooms`; `join-token` needs get on both `callrooms` and the Secret
//! `callplane-join-keys`. None of these is the operator's own identity's business.

pub mod admin;
pub mod api;
pub mod apply_crds;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod config;
pub mod context;
pub mod events;
#[cfg(test)]
mod fake;
pub mod keys;
pub mod leader;
pub mod metrics;
pub mod node;
pub mod pool;
pub mod queue;
pub mod room;
pub mod run;
mod secret;
pub mod self_test;
pub mod streak;
pub mod token;
pub mod turn;
pub mod watch;
