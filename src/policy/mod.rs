//! When a value is served, loaded and remembered: what rules say of a key.

pub mod rules;
