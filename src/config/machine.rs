//! What the machine, or the container this process is in, has to give.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The bytes of memory this process can have at most: the smallest of the machine's memory and the
/// limits of its control groups (both versions). `None` where the system does not say.
///
/// Read once: what follows from it does not change while the process runs.
#[must_use]
pub fn memory_limit_of_machine() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| memory_limit_under(Path::new("/")))
}

/// How many threads can run at once: the cores, or fewer where affinity or a quota says so.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory_limit_under(root: &Path) -> Option<u64> {
    [memory_total(root), control_group_limit(root)]
        .into_iter()
        .flatten()
        .min()
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn memory_total(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the groups this process is in and of all groups around them.
///
/// A line of `/proc/self/cgroup` is `id:controllers:path`; version 2 has id 0 and no controllers.
/// Inside a container the path can be the host's and not be there: then the mount's root is it.
fn control_group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return None;
        };
        least_limit(&root.join(mount), path.trim_start_matches('/'), file)
    });
    limits.min()
}

/// The least number in the files called `file` from `mount/path` up to `mount`.
fn least_limit(mount: &Path, path: &str, file: &str) -> Option<u64> {
    let mut group = PathBuf::from(path);
    let mut least = None;
    loop {
        // The word "max" is no number and no limit.
        let limit = fs::read_to_string(mount.join(&group).join(file))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        least = least.into_iter().chain(limit).min();
        if !group.pop() {
            return least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like the root of a machine, removed when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("machine-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:    1000 kB\nMemFree:   5 kB\n");

    #[test]
    fn without_control_groups_the_machine_s_memory_is_the_limit() {
        let machine = Machine::with("bare", &[MEMINFO]);
        assert_eq!(memory_limit_under(&machine.0), Some(1_024_000));
    }

    #[test]
    fn the_least_limit_of_nested_groups_counts() {
        let machine = Machine::with(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/memory.max", "500000\n"),
            ],
        );
        assert_eq!(memory_limit_under(&machine.0), Some(500_000));
    }

    #[test]
    fn a_container_whose_path_is_the_host_s_finds_its_limit_at_the_mount_s_root() {
        let machine = Machine::with(
            "v1",
            &[
                MEMINFO,
                (
                    "proc/self/cgroup",
                    "7:cpu:/docker/x\n4:pids,memory:/docker/x\n",
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n"),
            ],
        );
        assert_eq!(memory_limit_under(&machine.0), Some(700_000));
    }

    #[test]
    fn the_unlimited_value_of_version_1_gives_way_to_the_machine_s_memory() {
        let machine = Machine::with(
            "unlimited",
            &[
                MEMINFO,
                ("proc/self/cgroup", "4:memory:/\n"),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
        );
        assert_eq!(memory_limit_under(&machine.0), Some(1_024_000));
    }

    #[test]
    fn a_system_that_does_not_say_gives_none() {
        let machine = Machine::with("silent", &[("etc/nothing", "")]);
        assert_eq!(memory_limit_under(&machine.0), None);
    }
}
