#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oncelog_fuzz::index_lookup::run(data));
