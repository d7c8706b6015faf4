//! The tests of the page in a browser, as one program: to link it takes longer than most of its tests run.

#[path = "../../../../appliance/tests/it/example.rs"]
mod example;

mod consoles;
mod controls;
mod dialogs;
mod hindrances;
mod page;

// What tests share.
mod world;
