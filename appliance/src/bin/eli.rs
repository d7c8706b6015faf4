//! `eli`, the console client.

fn main() {}
