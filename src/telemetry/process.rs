//! Resource usage of the process, under the metric names of Prometheus's own client libraries.

use std::fmt::Write;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

/// One metric: name, help, whether it is a counter, value.
type Metric = (&'static str, &'static str, bool, Option<f64>);

/// Returns the metrics as OpenMetrics text without the end marker. Unavailable values are left out. `started` is the
/// start time of the process.
pub(super) fn text(started: SystemTime) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| field(&status, name).map(|value| value * 1024.0);
    let limit = getrlimit(Resource::Nofile).current.map(|limit| limit as f64);
    let metrics: [Metric; 7] = [
        ("process_cpu_seconds", "User and system CPU time that was spent", true, cpu()),
        ("process_resident_memory_bytes", "Memory that is held", false, kilobytes("VmRSS:")),
        ("process_virtual_memory_bytes", "Address space that is taken", false, kilobytes("VmSize:")),
        ("process_open_fds", "Open file descriptors", false, open_descriptors()),
        ("process_max_fds", "File descriptors that may be open", false, limit),
        ("process_threads", "Threads", false, field(&status, "Threads:")),
        (
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970",
            false,
            since_1970(started),
        ),
    ];
    let mut text = String::new();
    for (name, help, grows, value) in metrics {
        let Some(value) = value else { continue };
        let (kind, suffix) = if grows { ("counter", "_total") } else { ("gauge", "") };
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}");
    }
    text
}

pub(super) fn since_1970(time: SystemTime) -> Option<f64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// Returns the number after `name` in the text of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The unit in which the kernel reports CPU time, as a fraction of a second (`USER_HZ`).
const TICKS: f64 = 100.0;

fn cpu() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program name, which may contain any character, is in parentheses; the state after it is the third field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS)
}

fn open_descriptors() -> Option<f64> {
    // The descriptor used for counting is not counted.
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_system_tells_is_there_and_plausible() {
        let text = text(UNIX_EPOCH + Duration::from_secs(7));
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}: {text}")).parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 1e6 && value("process_virtual_memory_bytes") > 1e6, "{text}");
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"), "{text}");
        assert!(value("process_cpu_seconds_total") < 1e6 && value("process_threads") >= 1.0, "{text}");
        assert!(text.contains("process_start_time_seconds 7\n"), "{text}");
    }
}
