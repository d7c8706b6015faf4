//! DHCP for IPv4 (RFC 2131, 2132, 4578): one address per NIC through firmware, boot loader, initrd
//! and system, and the first step of the way to the boot script.
//!
//! ```text
//! bytes ──parse──▶ Request ──need──▶ offer or commit by the Directory ──answer──▶ Reply or silence
//! ```
//!
//! Everything but [`serve`] is a function of its arguments.

mod answer;
mod parse;
mod serve;

pub use answer::{Answer, Mode, Need, Reply, ServerFacts, answer, need};
pub(crate) use parse::scan;
pub use parse::{BadPacket, Kind, Request, parse};
pub use serve::{bind, serve};
