//! Whole programs against each other: real processes on loopback, a sender of our own that
//! keeps its own record, and a sink that misbehaves on request. In the order in which a test
//! meets them.

pub mod chance;
pub mod counting;
pub mod disk;
pub mod faulty;
pub mod http;
pub mod memory;
pub mod programs;
pub mod proxy;
pub mod sender;
pub mod soak;
pub mod wait;
pub mod world;
