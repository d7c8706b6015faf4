//! The tests of the state from outside, as one program: to link it takes longer than most of its tests run.

mod addresses;
mod checking;
mod decisions;
mod documents;
mod erasing;
mod fencing;
mod forecasts;
mod logins;
mod once;
mod random_runs;
mod removal;
mod snapshots;
mod strips;
mod systems;
mod tenants;
mod wiring;

// What tests share.
mod common;
