//! callplane.
