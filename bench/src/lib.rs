//! What the benchmarks are made of: an API server of their own, a fleet of media nodes that exist on paper only, the
//! operator as a process that is watched from outside, and a report that sets goals beside what was reached.

pub mod api_server;
pub mod clock;
pub mod fleet;
pub mod hold;
pub mod load;
pub mod observer;
pub mod operator;
pub mod report;
pub mod sfu;
