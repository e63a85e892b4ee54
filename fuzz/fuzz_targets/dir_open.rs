#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oncelog_fuzz::dir_open::run(data));
