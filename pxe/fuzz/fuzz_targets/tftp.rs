#![no_main]

#[path = "../src/tftp.rs"]
mod tftp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp::packets(bytes));
