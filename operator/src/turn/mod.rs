//! TURN: the shared secret that coturn believes, and the credentials that are minted with it.
//!
//! The Secret `callplane-turn` is the truth. coturn reads the set of secrets that it believes from Redis at each
//! allocation, so a new one counts at once and without a restart; whatever Redis lost is put back within seconds.
//! Redis and coturn being away stops nobody's call: relays that there are go on, and P2P and media nodes need none.

pub mod credential;
pub mod decide;
mod keeper;
pub mod keys;
pub mod redis;
pub mod rooms;
mod servers;
mod settings;
pub(crate) mod store;

pub use credential::{Credential, IceServer, ice_servers, is_turn_url, opaque_id};
pub use keeper::{Keeper, Minting, keep};
pub use servers::configured as configured_servers;
pub use settings::{RedisAt, Settings, TurnArgs};

#[cfg(test)]
mod secrecy_tests;
