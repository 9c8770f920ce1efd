//! Arguments that several verbs share, from text to values.
use anyhow::{Context, bail};
use voxfit::config::{Auto, ByteSize, Device};

/// `X,Y,Z`.
pub fn triple<T: std::str::FromStr>(text: &str) -> Result<[T; 3], String> {
    let parts: Vec<T> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| format!("`{part}` is no number; write three, as in 64,64,48")))
        .collect::<Result<_, _>>()?;
    <[T; 3]>::try_from(parts).map_err(|parts| format!("{} numbers, but three are needed: X,Y,Z", parts.len()))
}

/// `auto` or a size; as text, for the configuration to keep.
pub fn memory(text: &str) -> Result<String, String> {
    if text == "auto" { Ok(text.to_owned()) } else { text.parse::<ByteSize>().map(|size| size.to_string()) }
}

/// `auto` or a size.
pub fn budget(text: &str) -> Result<Auto<ByteSize>, String> {
    if text == "auto" { Ok(Auto::Auto) } else { text.parse().map(Auto::Value) }
}

/// `auto`, -1 or a number of samples.
pub fn micro_batch(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        _ if text == "auto" => Ok(-1),
        Ok(samples) if samples == -1 || (1..=65_536).contains(&samples) => Ok(samples),
        _ => Err("write auto or a whole number from 1 to 65536".into()),
    }
}

/// A share of a tile: 0 to 0.9.
pub fn overlap(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|overlap| (0.0..=0.9).contains(overlap))
        .ok_or_else(|| "write a number from 0 to 0.9".into())
}

/// The device that the run will have: `auto` is the fastest that was measured, the processor.
///
/// # Errors
/// A device that this build does not have.
pub fn usable(device: Device) -> anyhow::Result<Device> {
    let feature = match device {
        Device::Cpu | Device::Auto => return Ok(Device::Cpu),
        Device::Vulkan(_) if cfg!(feature = "vulkan") => return Ok(device),
        Device::Cuda(_) if cfg!(feature = "cuda") => return Ok(device),
        Device::Vulkan(_) => "vulkan",
        Device::Cuda(_) => "cuda",
    };
    bail!("--device {device}: not in this build; use --device cpu, or build with --features {feature}")
}

/// Sets how many threads all of the process computes with; once, before any work.
///
/// # Errors
/// Threads that cannot be started.
pub fn set_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .with_context(|| format!("--threads {threads}: they cannot be started; ask for fewer"))
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|threads| (1..=1024).contains(threads)).ok_or("write a whole number from 1 to 1024".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        assert_eq!(triple("64, 32,16"), Ok([64usize, 32, 16]));
        assert!(triple::<usize>("64,32").unwrap_err().contains("2 numbers"));
        assert!(triple::<usize>("64,32,-1").is_err());
        assert_eq!(memory("4gib"), Ok("4GiB".into()));
        assert!(memory("much").is_err());
        assert_eq!([micro_batch("auto"), micro_batch("-1"), micro_batch("3")], [Ok(-1), Ok(-1), Ok(3)]);
        assert!(micro_batch("0").is_err() && micro_batch("-2").is_err());
        assert_eq!(overlap("0.5"), Ok(0.5));
        assert!(overlap("1").is_err() && overlap("nan").is_err());
        assert!(threads("0").is_err());
    }
}
