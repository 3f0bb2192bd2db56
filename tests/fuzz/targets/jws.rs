//! Compact JWS: never panics, and what was read has one spelling.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::identity::jose::UnverifiedJws;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it stands, and as the three parts of a token: the fuzzer need not find out how base64 is written.
    if let Ok(text) = std::str::from_utf8(data) {
        read(text);
    }
    let parts: Vec<String> = data.split(|byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    read(&parts.join("."));
});

fn read(token: &str) {
    let Ok(jws) = UnverifiedJws::parse(token) else { return };
    assert_eq!(token.split('.').count(), 3, "read a token that has other than three parts");
    for part in token.split('.') {
        let decoded = URL_SAFE_NO_PAD.decode(part).expect("read a part that is not base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(decoded), part, "read a part that has another spelling");
    }
    let _issuer = jws.unverified_issuer();
    let _header = jws.unverified_header();
}
