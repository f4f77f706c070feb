//! What the API server itself refuses, tried on a real one: every validation rule of the definitions, every right of
//! the service accounts and every admission policy, each with the words that a person gets to see.
//!
//! Needs the chart to be installed, and nothing of it to be running. `make e2e` runs it.

mod desk;
mod identities;
mod manifests;
mod nodes;
mod people;
mod pods;
mod pools;
mod presence;
mod rights;
mod rooms;
mod secrets;
mod views;
