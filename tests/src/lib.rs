//! The lab: machines with real firmware in QEMU, a LAN between them, a laptop
//! on that LAN, and a client of the appliance's REST API. With these an
//! end-to-end test reads like the story it tests; `story` is that test.
//!
//! ```text
//!   appliance ──┐                     ┌── laptop (smoltcp) ⇄ 127.0.0.1:PORT
//!   bios ───────┼── lan (this crate) ─┼── jack: raw frames in and out
//!   uefi ───────┘                     └── pcap files
//! ```
//!
//! [`sim`] is another thing: the same core in a world that is made up, a thousand
//! times faster.
//!
//! No root, no bridge, no tap: every cable is a pair of unix datagram sockets.

pub mod accelerator;
pub mod api;
pub mod appliance;
pub mod bench;
pub mod bmc;
pub mod child;
pub mod console;
pub mod desk;
pub mod eli;
pub mod installer;
pub mod interrupt;
pub mod lab;
pub mod lan;
pub mod laptop;
pub mod machine;
pub mod matrix;
pub mod nonsense;
pub mod progress;
pub mod qmp;
pub mod sim;
pub mod ssh;
pub mod story;
pub mod trust;
pub mod uplink;
pub mod world;
