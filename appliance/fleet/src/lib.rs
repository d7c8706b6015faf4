//! The pure core of Elisandra.
pub mod id;
pub mod wire;
