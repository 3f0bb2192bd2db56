//! Certificate requests: never panics, in PEM as it comes and in DER put into PEM.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_broker::backend::x509::fuzzing::certificate_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _read = certificate_request(text);
    }
    let body = STANDARD.encode(data);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    let _read = certificate_request(&pem);
});
