//! What callplane promises, tried on a real cluster. One file each, named after what it proves.
//!
//! They share the cluster. `make e2e` runs those that get along with each other at the same time, and then the others.

mod alone;
mod side_by_side;
