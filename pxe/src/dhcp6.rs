//! DHCP for IPv6 (RFC 8415, boot options of RFC 5970): the address of a NIC is the network's /64 with its IPv4
//! address in the last 32 bits, so there is nothing to store that is not stored for IPv4.
//!
//! ```text
//! bytes ──parse──▶ Request ──need──▶ offer or commit by the Directory ──answer──▶ Reply or silence
//! ```
//!
//! Everything but [`serve`] and what it listens with is a function of its arguments.

mod answer;
mod duid;
mod option;
mod own_address;
mod parse;
mod probe;
mod relay;
mod rivals;
mod senders;
mod serve;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

pub use answer::{Answer, Facts, Need, Reply, Source, answer, declined, need};
pub use duid::{mac_of_interface_id, server_duid};
pub(crate) use option::domain_name;
pub(crate) use own_address::{ensure as ensure_own_address, mac_of};
pub use parse::{BadPacket, Ia, Kind, Request, VendorClass, parse};
pub use probe::{ForeignServer, servers};
pub use relay::Relay;
pub use rivals::{Rivals, Standing};
pub use serve::{Link, bind, serve};

/// Servers and relays listen on this port, clients on [`CLIENT_PORT`].
pub const SERVER_PORT: u16 = 547;
pub const CLIENT_PORT: u16 = 546;
/// Whom clients and relays on the link speak to.
pub(crate) const ALL_SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Whom relays on other links may speak to.
pub(crate) const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// The address in `network` of the NIC that has `address`: `fd12:3456:789a:1::a4d:100` for 10.77.1.0.
pub fn address_in(network: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    let host = u128::from(u32::from(address));
    Ipv6Addr::from(u128::from(network.network()) & !u128::from(u32::MAX) | host)
}

/// The IPv4 address that [`address_in`] made `address` of; `None` for one of another network, or of SLAAC.
pub fn ipv4_of(network: Ipv6Net, address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let ipv4 = Ipv4Addr::new(a, b, c, d);
    (address_in(network, ipv4) == address).then_some(ipv4)
}
