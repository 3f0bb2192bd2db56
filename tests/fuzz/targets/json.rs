//! Strict JSON against serde_json's own reading: what is read strictly is read the same by others.
#![no_main]

use hallpass_broker::identity::jose::json::{Document, Json};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(strict) = Document::parse(data) else { return };
    let other: Value = serde_json::from_slice(data).expect("serde_json does not read what was read strictly");
    assert!(same(&Json::Object(strict.members), &other), "two readings of one document");
});

fn same(strict: &Json, other: &Value) -> bool {
    match (strict, other) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(a), Value::Bool(b)) => a == b,
        (Json::Unsigned(a), Value::Number(b)) => b.as_u64() == Some(*a),
        (Json::Negative(a), Value::Number(b)) => b.as_i64() == Some(*a),
        (Json::Float(a), Value::Number(b)) => b.as_f64() == Some(*a),
        (Json::Text(a), Value::String(b)) => a == b,
        (Json::List(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}
