//! Traces: spans of requests, sent to a collector as OTLP over HTTP, in JSON.
//!
//! The invariant: a collector costs a request nothing. A span is put into a queue of a fixed length, or dropped and
//! counted; a task of its own sends what is in the queue, each batch once and within a deadline.
//!
//! OpenTelemetry's own crates would do the same by some thirty more, a second HTTP client and a thread of their own, since
//! their exporter does not work on an asynchronous one.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hallpass_core::secret::Secret;
use hallpass_core::time::Clock as _;
use hallpass_core::trace::TARGET;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use zeroize::Zeroizing;

use crate::config::server::TraceSettings;
use crate::outbound::{AllowHttp, Outbound, Post};
use crate::runtime::clock::SystemClock;

/// Spans that wait to be sent: some seconds of a busy broker, and a few megabytes.
const QUEUE: usize = 8_192;
/// Spans of one batch at most.
const BATCH: usize = 512;
/// How long a span waits for others at most.
const GATHERING: Duration = Duration::from_secs(1);
/// Time for one batch.
const DEADLINE: Duration = Duration::from_secs(3);
/// Time for the last one, on which a process waits that is to end.
const LAST_DEADLINE: Duration = Duration::from_secs(1);
/// Longest `Authorization`, in bytes.
const MAX_AUTHORIZATION: u64 = 8 * 1024;
/// Attributes of one span. Ours have a handful.
const MAX_ATTRIBUTES: usize = 16;

/// Collects spans of [`TARGET`].
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Finished>,
    sample_percent: u8,
    clock: SystemClock,
    /// The wall clock at the monotonic clock's zero, in nanoseconds since 1970.
    epoch: u64,
    ids: (RandomState, AtomicU64),
}

/// Sends what [`Traces`] collects.
#[derive(Debug)]
pub struct TraceExporter {
    queue: mpsc::Receiver<Finished>,
    outbound: Outbound,
    settings: TraceSettings,
}

/// Collects by `settings`; both halves belong together.
///
/// # Errors
/// When there can be no connection to the collector.
pub fn collect(settings: TraceSettings) -> anyhow::Result<(Traces, TraceExporter)> {
    let outbound = Outbound::new(settings.ca_file.as_deref())?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let traces = Traces::new(sender, settings.sample_percent);
    Ok((traces, TraceExporter { queue, outbound, settings }))
}

/// Where a span stands, while it is open.
struct Open {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    began: Duration,
    said: Said,
}

/// A span that is over.
#[derive(Debug)]
struct Finished {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    name: &'static str,
    began: u64,
    ended: u64,
    attributes: Vec<(&'static str, Value)>,
}

impl Traces {
    fn new(queue: mpsc::Sender<Finished>, sample_percent: u8) -> Self {
        let clock = SystemClock::start();
        let wall = u64::try_from(clock.now().as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        let epoch = wall.saturating_sub(nanos(clock.monotonic()));
        Self { queue, sample_percent, clock, epoch, ids: (RandomState::new(), AtomicU64::new(0)) }
    }

    /// Whether a span is for us.
    #[must_use]
    pub fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    /// Keyed by chance, and so not to be guessed; zero is none (W3C Trace Context §3.2.2.4).
    fn fresh_id(&self) -> u64 {
        let (keys, count) = &self.ids;
        keys.hash_one(count.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    /// Where a request's own span stands: in its caller's trace, or in one of its own. None where it is not to be
    /// collected: its caller said so, or it is not among the sampled.
    fn root(&self, said: &Said) -> Option<(u128, Option<u64>)> {
        if let Some(parent) = said.parent.as_deref().and_then(Parent::read) {
            return parent.is_sampled.then_some((parent.trace, Some(parent.span)));
        }
        let trace = said.trace.filter(|trace| *trace != 0)?;
        // The low bits of an id are chance.
        (trace % 100 < u128::from(self.sample_percent)).then_some((trace, None))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        attributes.record(&mut said);
        let above = span.parent().and_then(|above| {
            let extensions = above.extensions();
            extensions.get::<Open>().map(|open| (open.trace, Some(open.span)))
        });
        let Some((trace, parent)) = above.or_else(|| self.root(&said)) else { return };
        let open = Open { trace, span: self.fresh_id(), parent, began: self.clock.monotonic(), said };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.said);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let finished = Finished {
            trace: open.trace,
            span: open.span,
            parent: open.parent,
            name: span.metadata().name(),
            began: self.epoch.saturating_add(nanos(open.began)),
            ended: self.epoch.saturating_add(nanos(self.clock.monotonic())),
            attributes: open.said.attributes,
        };
        if self.queue.try_send(finished).is_err() {
            counted("dropped", 1);
        }
    }
}

/// What a span says.
#[derive(Debug, Default)]
struct Said {
    /// The trace that it begins, where it begins one.
    trace: Option<u128>,
    /// `traceparent` of whoever asks.
    parent: Option<String>,
    attributes: Vec<(&'static str, Value)>,
}

impl Said {
    fn say(&mut self, field: &Field, value: Value) {
        match field.name() {
            "trace.id" => {
                self.trace = value.as_str().and_then(|id| id.parse::<uuid::Uuid>().ok()).map(|id| id.as_u128())
            }
            "trace.parent" => self.parent = value.as_str().map(str::to_owned),
            name if self.attributes.len() < MAX_ATTRIBUTES => self.attributes.push((name, value)),
            _ => {}
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.say(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.say(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.say(field, value.into());
    }
}

/// A `traceparent` (W3C Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    is_sampled: bool,
}

impl Parent {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_whole = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        // A later version may have more parts; this one has not, and ff is none.
        if !is_whole || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

impl TraceExporter {
    /// Sends until `stopped`, and then what is left, if the collector takes it at once.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        let mut batch = Vec::new();
        let mut unwell = None;
        loop {
            let stopping = tokio::select! {
                () = &mut stopped => true,
                taken = self.queue.recv_many(&mut batch, BATCH) => taken == 0,
            };
            if stopping {
                self.queue.close();
                while batch.len() < BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    batch.push(span);
                }
            } else if batch.len() < BATCH {
                let room = BATCH.saturating_sub(batch.len());
                let more = self.queue.recv_many(&mut batch, room);
                // None of them is lost when this ends early: they are in the queue, or in the batch.
                let _gathered = tokio::time::timeout(GATHERING, more).await;
            }
            if !batch.is_empty() {
                let deadline = if stopping { LAST_DEADLINE } else { DEADLINE };
                self.send(std::mem::take(&mut batch), deadline, &mut unwell).await;
            }
            if stopping {
                return;
            }
        }
    }

    async fn post(&self, body: Bytes, deadline: Duration) -> Result<(), String> {
        let authorization = match &self.settings.authorization_file {
            None => None,
            Some(file) => Some(authorization(file).await?),
        };
        let post = Post {
            url: &self.settings.endpoint,
            content_type: "application/json",
            authorization: authorization.as_ref(),
            body,
            deadline,
            // A collector is often beside the broker, and speaks plain http there.
            allow_http: if self.settings.plain_http { AllowHttp::DangerousAnywhere } else { AllowHttp::Loopback },
        };
        self.outbound.post(post).await.map_err(|error| error.to_string())
    }

    /// `unwell`: why the batch before was not taken.
    async fn send(&self, batch: Vec<Finished>, deadline: Duration, unwell: &mut Option<String>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = Bytes::from(document(batch).to_string());
        match self.post(body, deadline).await {
            Ok(()) => {
                counted("sent", spans);
                *unwell = None;
            }
            Err(error) => {
                // Each reason once, until it is over or gives way to another.
                if unwell.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the collector does not take traces; they are dropped");
                }
                counted("dropped", spans);
                *unwell = Some(error);
            }
        }
    }
}

/// What the collector wants to be told of who sends, read for each batch, so that it may be changed.
async fn authorization(file: &Path) -> Result<Secret, String> {
    let unusable = |why: &str| format!("the file {}: {why}", file.display());
    let opened = tokio::fs::File::open(file).await.map_err(|error| unusable(&error.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    opened.take(MAX_AUTHORIZATION + 1).read_to_end(&mut text).await.map_err(|error| unusable(&error.to_string()))?;
    let value = text.trim_ascii();
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let fits = !value.is_empty() && text.len() as u64 <= MAX_AUTHORIZATION && value.iter().all(is_visible);
    let value = std::str::from_utf8(value).ok().filter(|_| fits);
    let value = value.ok_or_else(|| unusable("holds no header's value: one line, such as `Bearer` and a token"))?;
    Ok(Secret::new(value.to_owned()))
}

/// `ExportTraceServiceRequest` (opentelemetry-proto), in the JSON that OTLP has: ids in hexadecimal, 64 bits as text.
fn document(batch: Vec<Finished>) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = [text("service.name", "hallpass-broker"), text("service.version", env!("CARGO_PKG_VERSION"))];
    let spans: Vec<_> = batch.into_iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "hallpass"}, "spans": spans}],
    }]})
}

fn span(finished: Finished) -> Value {
    const INTERNAL: u8 = 1;
    const SERVER: u8 = 2;
    const ERROR: u8 = 2;
    let Finished { trace, span, parent, name, began, ended, attributes } = finished;
    let is_request = name == "request";
    let failed =
        attributes.iter().any(|(name, value)| *name == "http.response.status_code" && value.as_u64() >= Some(500));
    let said = |wanted: &str| attributes.iter().find(|(name, _)| *name == wanted).and_then(|(_, value)| value.as_str());
    // The conventions for HTTP name a server's span by method and route.
    let name = match (is_request, said("http.request.method"), said("http.route")) {
        (true, Some(method), Some(route)) => format!("{method} {route}"),
        _ => name.to_owned(),
    };
    let attributes: Vec<_> = attributes
        .into_iter()
        .map(|(key, value)| match value {
            Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            Value::String(text) => json!({"key": key, "value": {"stringValue": text}}),
            other => json!({"key": key, "value": {"stringValue": other.to_string()}}),
        })
        .collect();
    let mut span = json!({
        "traceId": format!("{trace:032x}"),
        "spanId": format!("{span:016x}"),
        "name": name,
        "kind": if is_request { SERVER } else { INTERNAL },
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": ended.to_string(),
        "attributes": attributes,
        "status": if failed { json!({"code": ERROR}) } else { json!({}) },
    });
    if let (Some(parent), Some(span)) = (parent, span.as_object_mut()) {
        span.insert("parentSpanId".to_owned(), format!("{parent:016x}").into());
    }
    span
}

fn counted(outcome: &'static str, spans: u64) {
    metrics::counter!("hallpass_trace_spans_total", "outcome" => outcome).increment(spans);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The spans of what `work` does.
    fn collected(queue: usize, percent: u8, work: impl FnOnce()) -> Vec<Finished> {
        let (sender, mut receiver) = mpsc::channel(queue);
        let traces = Traces::new(sender, percent).with_filter(filter_fn(Traces::wants));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(traces), work);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    fn request(parent: Option<&str>) {
        let id = uuid::Uuid::from_u128(7);
        let request = match parent {
            Some(parent) => tracing::trace_span!(target: TARGET, "request", trace.id = %id, trace.parent = parent),
            None => tracing::trace_span!(target: TARGET, "request", trace.id = %id, said = tracing::field::Empty),
        };
        request.record("said", 3_u64);
        request.in_scope(|| {
            tracing::info_span!("of another target").in_scope(|| {
                tracing::trace_span!(target: TARGET, "store").in_scope(|| ());
            });
        });
    }

    #[test]
    fn spans_stand_under_their_request_and_in_their_callers_trace() {
        let spans = collected(9, 0, || request(Some(PARENT)));
        let [store, request] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((store.name, request.name), ("store", "request"));
        assert_eq!(request.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((request.parent, store.parent), (Some(0xb7ad_6b71_6920_3331), Some(request.span)));
        assert_eq!(store.trace, request.trace);
        assert!(request.began <= store.began && store.ended <= request.ended);
    }

    #[test]
    fn a_request_of_no_trace_begins_one_if_it_is_sampled() {
        let spans = collected(9, 100, || request(None));
        assert_eq!(
            spans.iter().map(|span| (span.trace, span.name)).collect::<Vec<_>>(),
            [(7, "store"), (7, "request")]
        );
        assert_eq!(spans[1].attributes, [("said", Value::from(3))]);
        assert!(collected(9, 7, || request(None)).is_empty(), "seven of a hundred: 0 to 6");
        assert!(
            collected(9, 100, || request(Some(&PARENT.replace("-01", "-00")))).is_empty(),
            "its caller does not want it"
        );
        let outside = || drop(tracing::trace_span!(target: TARGET, "store"));
        assert!(collected(9, 100, outside).is_empty(), "a step of no request is of no trace");
    }

    #[test]
    fn what_finds_no_place_is_dropped_and_nobody_waits() {
        let spans = collected(3, 100, || (0..50).for_each(|_| request(None)));
        assert_eq!(spans.len(), 3);
    }

    #[test]
    fn a_parent_is_read_as_its_standard_writes_it() {
        let read = Parent::read(PARENT).unwrap();
        assert_eq!((read.span, read.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert!(Parent::read(&format!("01{}-more", &PARENT[2..])).is_some(), "a later version may have more");
        for wrong in [
            "",
            "00",
            &format!("{PARENT}-more"),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT.replace("b7ad6b7169203331", "b7ad6b716920333"),
            &PARENT.replace("-01", "-0x"),
        ] {
            assert_eq!(Parent::read(wrong), None, "{wrong}");
        }
    }
}
