//! What the machine has: threads, memory, instruction sets. Read, never decided upon.
use std::fs;
use std::path::{Path, PathBuf};

/// Memory in bytes; None where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOfMachine {
    /// All that is built in.
    pub total: Option<u64>,
    /// What a new process could take now: the least of what the system and every cgroup around this process leave.
    pub available: Option<u64>,
    /// The smallest limit of those cgroups.
    pub cgroup_limit: Option<u64>,
}

/// Reads `/proc` and the cgroup files; elsewhere nothing is known.
pub fn memory() -> MemoryOfMachine {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mut memory = MemoryOfMachine {
        total: field(&meminfo, "MemTotal:"),
        available: field(&meminfo, "MemAvailable:"),
        cgroup_limit: None,
    };
    for (limit, used) in cgroup_limits() {
        let left = limit.saturating_sub(used);
        memory.available = Some(memory.available.map_or(left, |available| available.min(left)));
        memory.cgroup_limit = Some(memory.cgroup_limit.map_or(limit, |smallest| smallest.min(limit)));
    }
    memory
}

/// A field of `/proc/meminfo`, which is in kB of 1024 bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Limit and use of every cgroup that this process is in and that has a limit.
fn cgroup_limits() -> Vec<(u64, u64)> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, limit, used) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        let root = Path::new(root);
        let mut folder: PathBuf = root.join(path.trim_start_matches('/'));
        // Inside a container the path may be that of the host; then the root is the container's own.
        loop {
            if let (Some(limit), Some(used)) = (number(&folder.join(limit)), number(&folder.join(used))) {
                limits.push((limit, used));
            }
            if folder == root || !folder.pop() || !folder.starts_with(root) {
                break;
            }
        }
    }
    limits
}

/// Bytes that this user may still write to the disk of `path`, or of its nearest folder that is there; None where the
/// system does not say.
pub fn free_disk(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let folder = absolute.ancestors().find(|folder| folder.is_dir())?;
    free_at(folder)
}

#[cfg(unix)]
fn free_at(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_at(_: &Path) -> Option<u64> {
    None
}

/// A file that holds a number; `max`, and version 1's number near 2^63, mean no limit.
fn number(path: &Path) -> Option<u64> {
    let number = fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()?;
    (number < 1 << 60).then_some(number)
}

/// Instruction sets that matter to training, of those the processor has.
pub fn features() -> Vec<&'static str> {
    let mut present = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
            ("avx512fp16", std::arch::is_x86_feature_detected!("avx512fp16")),
        ];
        present.extend(all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let all = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
            ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ];
        present.extend(all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    present
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kibibytes() {
        let text = "MemTotal:       24576000 kB\nMemFree:  1 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(field(text, "MemTotal:"), Some(24_576_000 * 1024));
        assert_eq!(field(text, "MemAvailable:"), Some(1 << 20));
        assert_eq!(field("", "MemTotal:"), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_disk_is_that_of_the_nearest_folder() {
        let folder = tempfile::tempdir().unwrap();
        let free = free_disk(&folder.path().join("not/there/yet")).unwrap();
        // Other programs write meanwhile, but not everything.
        let again = free_disk(folder.path()).unwrap();
        assert!(free > 0 && free.abs_diff(again) < free / 2, "{free} {again}");
    }

    #[test]
    fn what_is_available_is_not_more_than_there_is() {
        let memory = memory();
        if let (Some(total), Some(available)) = (memory.total, memory.available) {
            assert!(available <= total);
        }
    }
}
