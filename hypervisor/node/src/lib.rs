//! What runs on every machine.
//!
//! ```text
//! initrd ── iso ──────▶ root from the medium            the first machine, the appliance
//!        ── discover ─▶ report, wait, install, erase, check    a machine that was plugged in
//!        ── live ─────▶ root from the network           a host without a disk of its own
//!        ── disk ─────▶ root from its own disk          an installed machine
//! then, from the running system: keep-image (appliance), the host agent (`src/host`), the guest agent
//! ```
//!
//! Two binaries: `elisandra-node` goes into every initrd and every guest and links nothing but libc;
//! `elisandra-host` is the host agent and links libvirt. The host agent's code lives beside its `main`
//! and not in this library, so that no build of `elisandra-node` can be made to need libvirt.

pub mod account;
mod aligned;
pub mod alone;
pub mod check;
pub mod client;
pub mod cmdline;
pub mod console;
pub mod consoles;
pub mod download;
pub mod erase;
pub mod guest;
pub mod identity;
pub mod initrd;
pub mod install;
pub mod inventory;
pub mod keep_image;
pub mod labels;
pub mod layout;
pub mod lldp;
pub mod manifest;
pub mod member;
pub mod mounts;
pub mod network;
pub mod places;
pub mod state;
pub mod system;
pub mod tool;
