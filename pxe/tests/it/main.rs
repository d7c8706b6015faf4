//! The tests of the netboot servers from outside, as one program: to link it takes longer than most of its tests run.

mod clients;
mod clients_proxy;
mod corpus;
mod dhcp;
mod dhcp6;
mod dhcp_answers;
mod dhcp_proxy;
mod http;
mod http_clients;
mod http_turns;
mod kickstart;
mod tftp;
mod wire;
mod wire6;

// What tests share.
mod appliance;
mod directory;
mod namespace;
mod packet;
mod pykickstart;
mod served;
mod tftp_client;
