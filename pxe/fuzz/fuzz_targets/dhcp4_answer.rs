#![no_main]

#[path = "../src/dhcp4.rs"]
mod dhcp4;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dhcp4::answer(data));
