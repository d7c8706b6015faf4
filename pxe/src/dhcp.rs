//! DHCP for IPv4 (RFC 2131, 2132 and what docs/booting.md names): one address per NIC through firmware, boot loader,
//! initrd and system, and the first step of the way to the boot script; or, beside another server, that step alone.
//!
//! ```text
//! bytes ──parse──▶ Request ──need──▶ offer or commit by the Directory ──answer──▶ Reply or silence
//!                     └──────────────────proxy::answer─────────────────────────────▶
//! ```
//!
//! Everything but [`serve`] is a function of its arguments.

mod answer;
mod boot;
mod conflict;
mod options;
mod parse;
mod proxy;
mod relay;
mod reply;
mod serve;
mod socket;

pub use answer::{Answer, Mode, Need, Reply, ServerFacts, answer, conflicting, need};
pub(crate) use boot::{loader, loader_url};
pub(crate) use options::{Options, code};
pub use parse::{BadPacket, Kind, Request, parse};
pub use proxy::{Choice, Chosen, Port, answer as proxy_answer};
pub use relay::{Agent, lie};
pub use serve::serve;
pub use socket::{Sockets, bind};
