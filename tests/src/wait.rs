//! Awaiting a condition with a deadline.

use std::time::Duration;

/// Awaits a condition: asks every few milliseconds until it gives a value.
///
/// # Panics
/// When the deadline passes first; the message says `what` was awaited.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let met = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    let Ok(value) = tokio::time::timeout(deadline, met).await else {
        panic!("not within {deadline:?}: {what}");
    };
    value
}

#[tokio::test]
#[should_panic(expected = "not within 30ms: pigs fly")]
async fn a_condition_that_never_holds_fails_at_its_deadline_by_name() {
    eventually("pigs fly", Duration::from_millis(30), async || None::<()>).await;
}
