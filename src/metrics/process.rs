//! What the system knows of this process: memory, processor time.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Bytes of memory that are in RAM; 0 where the system does not say.
#[must_use]
pub fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// File descriptors in use; 0 where the system does not say.
#[must_use]
pub fn open_files() -> usize {
    // The directory itself is open while it is read.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// The system's name and version, as `uname` has them.
#[must_use]
pub fn system() -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/sys/kernel/{file}"));
    let name = read("ostype").unwrap_or_else(|_| std::env::consts::OS.to_owned());
    let release = read("osrelease").unwrap_or_default();
    format!(
        "{} {} {}",
        name.trim(),
        release.trim(),
        std::env::consts::ARCH
    )
}

/// Processor time that was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessorTime {
    /// By our own code.
    pub user: Duration,
    /// By the kernel for us.
    pub system: Duration,
}

impl ProcessorTime {
    /// Of all threads.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// Of children that have ended.
    #[must_use]
    pub fn of_children() -> Self {
        Self::of(UsageWho::RUSAGE_CHILDREN)
    }

    /// Of the main thread, to a hundredth of a second.
    #[must_use]
    pub fn of_main_thread() -> Self {
        let process = std::process::id();
        let text = fs::read_to_string(format!("/proc/self/task/{process}/stat"));
        text.ok()
            .and_then(|text| Self::of_stat(&text))
            .unwrap_or_default()
    }

    fn of(who: UsageWho) -> Self {
        let duration = |time: TimeVal| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
            Duration::from_secs(seconds) + Duration::from_micros(micros)
        };
        getrusage(who).map_or_else(
            |_| Self::default(),
            |usage| Self {
                user: duration(usage.user_time()),
                system: duration(usage.system_time()),
            },
        )
    }

    /// Reads `/proc/[pid]/stat`: fields 14 and 15, the name in field 2 may hold spaces.
    fn of_stat(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut ticks = fields
            .split_ascii_whitespace()
            .skip(11)
            .map(str::parse::<u64>);
        let mut next = || Some(Duration::from_millis(ticks.next()?.ok()? * TICK_MS));
        Some(Self {
            user: next()?,
            system: next()?,
        })
    }
}

/// `USER_HZ` is 100 on every Linux.
const TICK_MS: u64 = 10;

/// The most that was ever seen of something, in bytes.
#[derive(Debug, Default)]
pub struct Peak(AtomicUsize);

impl Peak {
    /// Notes what is in use now, and returns the most that ever was.
    pub fn note(&self, bytes: usize) -> usize {
        self.0.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// Forgets it.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_this_process() {
        assert!(resident_bytes() > 100_000);
        assert!(open_files() >= 3);
        assert!(system().split(' ').count() >= 3, "{}", system());
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_thread_s_name() {
        let line = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20 0";
        let time = ProcessorTime::of_stat(line).unwrap();
        assert_eq!(time.user, Duration::from_millis(2500));
        assert_eq!(time.system, Duration::from_millis(310));
        assert!(ProcessorTime::of_stat("7 (x").is_none());
    }
}
