//! Media servers side by side: the same load from the same generator, over DTLS, ICE and SRTP on loopback.
//!
//! ```text
//! cases ─ server (signalling: HTTP, or a script of bench/peers) ── the process that is measured
//!    └── generator ─ client ─ handshake, track, stream ── UDP ──┘
//! ```

pub mod cases;
pub mod client;
pub mod floors;
pub mod generator;
pub mod handshake;
pub mod meter;
pub mod path;
pub mod process;
pub mod rtcp;
pub mod rtp;
pub mod run;
pub mod server;
pub mod soak;
pub mod srtp;
pub mod stage;
pub mod stream;
pub mod table;
pub mod track;
pub mod video;
