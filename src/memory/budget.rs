//! How much the process may hold.
use super::machine;
use super::meter;
use crate::config::{Auto, ByteSize};

/// Left to the system and to other programs where the budget is `auto`, in bytes: a sixteenth of what is there, at least
/// this.
const RESERVE: u64 = 128 << 20;
/// Left of the limits on address space and data, in bytes: the system's allocator maps more than is held, and how much more
/// depends on which threads ask it when.
const MAPPED: u64 = 8 << 20;

/// Bytes that the process may hold in all, itself as it is now included: the least of what the system and its cgroups have
/// left, less a reserve, and of the limits set on its address space and data. `None` where nothing tells.
pub fn automatic() -> Option<u64> {
    let held = meter::resident_bytes().unwrap_or(0);
    let machine = machine::memory();
    let left = machine.available.map(|available| {
        let reserve = RESERVE.max(available / 16);
        available.saturating_sub(reserve).saturating_add(held)
    });
    left.into_iter().chain(limited()).min()
}

/// A budget as it is written, or less where the system's limits on the process are less; else the automatic one.
pub fn of(written: Auto<ByteSize>) -> Option<u64> {
    match written {
        Auto::Value(budget) => limited().into_iter().chain([budget.0]).min(),
        Auto::Auto => automatic(),
    }
}

/// What the limits on the process's address space and data leave it, itself as it is now included.
fn limited() -> Option<u64> {
    // Threads have their stacks from now on: what is mapped counts, not what is resident.
    rayon::current_num_threads();
    let held = meter::resident_bytes().unwrap_or(0);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let left = |limit: &str, used: &str| {
        let limit = soft_limit(&limits, limit)?;
        let left = limit.saturating_sub(meter::status_field(used)?).saturating_sub(MAPPED);
        Some(left.saturating_add(held))
    };
    [left("Max data size", "VmData:"), left("Max address space", "VmSize:")].into_iter().flatten().min()
}

/// A line of `/proc/self/limits`: name, soft limit, hard limit, unit.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             1073741824           unlimited            bytes     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(soft_limit(text, "Max data size"), Some(1 << 30));
        assert_eq!(soft_limit(text, "Max address space"), None);
        assert_eq!(soft_limit("", "Max data size"), None);
    }
}
