//! The tests of the control plane from outside, as one program: to link it takes longer than most of its tests run.

#[path = "../../../pxe/tests/it/namespace.rs"]
mod namespace;
#[path = "../../../pxe/tests/it/pykickstart.rs"]
mod pykickstart;

mod accidents;
mod answers;
mod api;
mod bmc;
mod bmc_logins;
mod bmc_peers;
mod consoles;
mod described;
mod eli;
mod eli_manners;
mod erase;
mod history;
mod log;
mod media;
mod mirror;
mod netboot;
mod networks;
mod node_api;
mod pages;
mod plan;
mod power;
mod query;
mod rest;
mod screen;
mod strip_peers;
mod support;
mod templates;
mod tenants;
mod tokens;
mod users;
mod vault;
mod webhooks;

// What tests share.
mod client;
mod database;
mod desk;
mod example;
mod fake_bmc;
mod large;
mod machines;
