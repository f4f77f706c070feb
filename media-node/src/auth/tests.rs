//! Tokens that count and tokens that do not.
