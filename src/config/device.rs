//! Where tensors live, as written on the command line.
use std::fmt;
use std::str::FromStr;

/// A device: `cpu`, `vulkan[:N]`, `cuda[:N]` or `auto` (the fastest present).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor, by voxfit's own operations.
    #[default]
    Cpu,
    /// A graphics card by its Vulkan driver, as `voxfit devices` counts them from 0.
    Vulkan(usize),
    /// The NVIDIA card of this number, from 0, by CUDA.
    Cuda(usize),
    /// The processor in this version, for no card was measured.
    Auto,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no device; write cpu, vulkan, vulkan:N, cuda, cuda:N or auto");
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => {
                let index = index.parse::<u8>().map_err(|_| refused())?;
                (kind, Some(usize::from(index)))
            }
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("auto", None) => Ok(Self::Auto),
            ("vulkan", index) => Ok(Self::Vulkan(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Auto => formatter.write_str("auto"),
            Self::Vulkan(index) => write!(formatter, "vulkan:{index}"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn names_are_read_and_written() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("auto", Device::Auto),
            ("vulkan", Device::Vulkan(0)),
            ("vulkan:2", Device::Vulkan(2)),
            ("cuda:1", Device::Cuda(1)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for text in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:999", "CPU", "auto:1"] {
            assert!(text.parse::<Device>().unwrap_err().contains("vulkan:N"), "{text}");
        }
    }
}
