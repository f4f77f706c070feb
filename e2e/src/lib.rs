//! What the scenarios under `tests/` are written in.
//!
//! Decides how a scenario runs on the shared cluster: against the chart as it is installed, in a namespace
//! and on media pools of its own, following objects by watch instead of polling, and putting back what it
//! changed, also when it fails. A failure says what was waited for and what was last seen.

pub mod browsers;
pub mod clock;
pub mod cluster;
pub mod gateway;
pub mod history;
pub mod machine;
pub mod media;
pub mod polling;
pub mod process;
pub mod program;
pub mod scenario;
pub mod scene;
pub mod text;
pub mod token;
pub mod turn;
pub mod wait;

pub use browsers::Call;
pub use cluster::Cluster;
pub use history::History;
pub use scene::Scene;
