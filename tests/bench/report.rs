//! Figures for people.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]

use hdrhistogram::Histogram;

use crate::broker::{Memory, Transport};
use crate::load::Measured;

pub(crate) fn machine(facts: &[(&'static str, String)]) {
    for (name, value) in facts {
        println!("{name:<18} {value}");
    }
    println!();
}

pub(crate) fn heading() {
    println!("{}", columns("connections"));
}

pub(crate) fn line(transport: Transport, clients: usize, measured: &Measured) {
    named_line(name(transport), clients, measured);
    if transport == Transport::Tls {
        println!(
            "{:<28} {:.0} % of the sessions were resumed",
            "",
            100.0 * measured.resumed as f64 / measured.tokens as f64
        );
    }
}

/// The same for a load that is told apart by something else.
pub(crate) fn named_line(what: &str, clients: usize, measured: &Measured) {
    println!("{}", figures(what, clients, measured));
}

pub(crate) fn heading_with_memory(what: &str) {
    println!("{} {:>8}", columns(what), "MB held");
}

/// The same for a broker whose memory is told with it.
pub(crate) fn line_with_memory(what: &str, clients: usize, measured: &Measured, memory: &Memory) {
    println!("{} {:>8}", figures(what, clients, measured), memory.now / 1024);
}

fn columns(what: &str) -> String {
    format!(
        "{what:<28} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>14}",
        "clients", "tokens", "per s", "p50 ms", "p99 ms", "max ms", "broker", "load", "broker µs each"
    )
}

fn figures(what: &str, clients: usize, measured: &Measured) -> String {
    let millis = |micros: u64| micros as f64 / 1000.0;
    // What a token costs the broker is the same on a busy machine, where the other figures are not.
    let each = measured.broker.as_micros() as f64 / measured.tokens as f64;
    let cores = |time: std::time::Duration| time.as_secs_f64() / measured.took.as_secs_f64();
    format!(
        "{what:<28} {clients:>7} {:>9} {:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>5.2} cpu {:>5.2} cpu {each:>14.0}",
        measured.tokens,
        measured.per_second(),
        millis(measured.latency.value_at_quantile(0.5)),
        millis(measured.latency.value_at_quantile(0.99)),
        millis(measured.latency.max()),
        cores(measured.broker),
        cores(measured.load),
    )
}

pub(crate) fn heading_of_backends() {
    println!(
        "{:<28} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "real backends", "clients", "answers", "per s", "p50 ms", "p99 ms", "max ms"
    );
}

/// What asking one way showed.
pub(crate) fn line_of_backends(what: &str, clients: usize, took: std::time::Duration, latency: &Histogram<u64>) {
    let millis = |micros: u64| micros as f64 / 1000.0;
    println!(
        "{what:<28} {clients:>7} {:>9} {:>9.0} {:>9.2} {:>9.2} {:>9.2}",
        latency.len(),
        latency.len() as f64 / took.as_secs_f64(),
        millis(latency.value_at_quantile(0.5)),
        millis(latency.value_at_quantile(0.99)),
        millis(latency.max()),
    );
}

pub(crate) fn memory(transport: Transport, memory: &Memory) {
    named_memory(name(transport), memory);
}

/// The same for a broker that is told apart by something else.
pub(crate) fn named_memory(what: &str, memory: &Memory) {
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
    println!(
        "{:<28} the broker holds {:.0} MB, at most it held {:.0} MB",
        what,
        megabytes(memory.now),
        megabytes(memory.highest)
    );
}

pub(crate) fn kept(grants: u64) {
    println!("{:<28} {grants} tokens were received, and as many grants are in the ledger\n", "");
}

/// What was reached beside what was expected.
pub(crate) fn reached(what: &str, reached: &str, expected: &str) {
    println!("{what:<28} {reached} (expected: {expected})");
}

/// Something that is no figure to be reached.
pub(crate) fn fact(what: &str, fact: &str) {
    println!("{what:<28} {fact}");
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Plain => "kept",
        Transport::Tls => "a new one each, TLS resumed",
    }
}
