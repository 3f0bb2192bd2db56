//! What the figures were measured on, and what the kernel says that they cost.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hallpass_tests::component;

/// Ticks in a second of `/proc/PID/stat`: Linux shows 100 on every machine, whatever the kernel's own.
const TICKS_PER_SECOND: u64 = 100;
/// Writes by which the disk is judged.
const SYNCS: u32 = 100;

/// Facts of the machine by name.
pub(crate) fn facts() -> anyhow::Result<Vec<(&'static str, String)>> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let folder = component::root().join("target");
    Ok(vec![
        ("processor", value(&cpu, "model name")),
        ("cores", std::thread::available_parallelism()?.to_string()),
        ("memory", value(&memory, "MemTotal")),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", file_system(&folder)),
        ("one durable write", format!("{} µs", sync_time(&folder)?.as_micros())),
        ("load average", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ])
}

/// Processor time of a process since its start.
pub(crate) struct CpuTime(Duration);

impl CpuTime {
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name may have spaces; it ends with the last parenthesis. proc_pid_stat(5): utime is field 14, stime 15.
        let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Self(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)))
    }

    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The type of the file system that this folder is on.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut best = (0, "unknown".to_owned());
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(at), Some(kind)) = (fields.next(), fields.next())
            && folder.starts_with(at)
            && at.len() >= best.0
        {
            best = (at.len(), kind.to_owned());
        }
    }
    best.1
}

/// How long it takes to write a page so that it outlives a power cut.
#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
fn sync_time(folder: &Path) -> anyhow::Result<Duration> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::tempfile_in(folder)?;
    let started = Instant::now();
    for _ in 0..SYNCS {
        write_durably(&mut file)?;
    }
    Ok(started.elapsed() / SYNCS)
}

fn write_durably(file: &mut File) -> std::io::Result<()> {
    file.write_all(&[0; 4096])?;
    file.sync_data()
}
