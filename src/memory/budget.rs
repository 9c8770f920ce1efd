//! How much the process may hold.
use super::machine;
use super::meter;

/// Left to the system and to other programs where the budget is `auto`, in bytes: a sixteenth of what is there, at least
/// this.
const RESERVE: u64 = 128 << 20;

/// Bytes that the process may hold in all, itself as it is now included: the least of what the system and its cgroups have
/// left, less a reserve, and of the limits set on its address space and data. `None` where nothing tells.
pub fn automatic() -> Option<u64> {
    let held = meter::resident_bytes().unwrap_or(0);
    let machine = machine::memory();
    let left = machine.available.map(|available| {
        let reserve = RESERVE.max(available / 16);
        available.saturating_sub(reserve).saturating_add(held)
    });
    // What is mapped counts against these, not what is resident: the process as it is now comes off.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limited =
        ["Max data size", "Max address space"].into_iter().zip(["VmData:", "VmSize:"]).filter_map(|(limit, used)| {
            let limit = soft_limit(&limits, limit)?;
            let used = meter::status_field(used)?;
            Some(limit.saturating_sub(used).saturating_add(held))
        });
    left.into_iter().chain(limited).min()
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
