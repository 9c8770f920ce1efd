//! Measures the peak resident memory of the process, also of one part of its life, and a card's.
use burn::tensor::Device;

/// Peak resident bytes since the start or the last [`reset_peak`]; `None` where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    status_field("VmHWM:")
}

/// The most that training on `device` has held: of the processor the peak of the process, of a card what its memory pool
/// has of it, which does not shrink during a run. `None` where it is not told.
pub fn peak_of(device: &Device) -> Option<u64> {
    if *device == Device::flex() {
        return peak_bytes();
    }
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// Resident bytes now.
pub fn resident_bytes() -> Option<u64> {
    status_field("VmRSS:")
}

/// Bytes mapped to be written, which is what a limit on a process's data counts.
pub fn data_bytes() -> Option<u64> {
    status_field("VmData:")
}

/// Starts a new peak (Linux; elsewhere, and where the system refuses, the peak is that of the process's life).
pub fn reset_peak() {
    // "5" resets the peak resident set size; see proc(5), /proc/pid/clear_refs. A refusal changes nothing.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A field of /proc/self/status in bytes.
pub(super) fn status_field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn sees_a_hundred_mebibytes() {
        let before = peak_bytes().unwrap();
        let block = vec![1u8; 100 << 20];
        assert!(std::hint::black_box(&block).contains(&1));
        assert!(peak_bytes().unwrap() >= before.max(resident_bytes().unwrap() - (1 << 20)));
        assert!(peak_bytes().unwrap() > 100 << 20);
    }
}
