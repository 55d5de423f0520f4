#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| laws::pieces::key_value(data));
