//! From a device's name to Burn's device. Never Burn's default: that depends on the build.
use burn::tensor::FloatDType;

use crate::config::{Activations, Device};

/// A kind of graphics card that a build may have the code for, by its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cards {
    /// Any maker's, by Vulkan.
    Vulkan,
    /// NVIDIA's, by CUDA.
    Cuda,
}

impl Cards {
    /// As `--device` and the build's features call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this build has the code for them.
    pub fn built(self) -> bool {
        match self {
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Those that this machine has, in the order in which `--device` counts them: of Vulkan's, discrete cards first and
    /// drivers that compute on the processor last. None without the feature.
    fn here(self) -> Vec<burn::tensor::Device> {
        match self {
            #[cfg(feature = "vulkan")]
            Self::Vulkan => burn::tensor::Device::enumerate(burn::tensor::DeviceType::Vulkan).into_iter().collect(),
            #[cfg(feature = "cuda")]
            Self::Cuda => burn::tensor::Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().collect(),
            #[allow(unreachable_patterns, reason = "which kinds remain depends on the features")]
            _ => Vec::new(),
        }
    }

    /// What these say of themselves, in the order of [`open`]'s numbers. Opens every one of them.
    pub fn found(self) -> Vec<Card> {
        let card = |device: &burn::tensor::Device| Card {
            name: name(device),
            precisions: [Activations::F32, Activations::Bf16, Activations::F16]
                .into_iter()
                .filter(|&activations| computes_in(device, activations))
                .collect(),
        };
        self.here().iter().map(card).collect()
    }

    fn open(self, number: usize) -> Result<burn::tensor::Device, String> {
        let name = self.name();
        if !self.built() {
            return Err(format!("{name}:{number} is not in this build; `voxfit devices` lists what is"));
        }
        let mut here = self.here();
        match here.len() {
            count if number < count => Ok(here.swap_remove(number)),
            0 => Err(format!("{name}:{number}: no driver of this machine shows a card; use --device cpu")),
            count => Err(format!("{name}:{number} is not here, the last is {name}:{}; see voxfit devices", count - 1)),
        }
    }
}

/// A card of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// As its driver calls it.
    pub name: String,
    /// The types of activations that it computes in.
    pub precisions: Vec<Activations>,
}

fn name(device: &burn::tensor::Device) -> String {
    #[cfg(any(feature = "vulkan", feature = "cuda"))]
    if let Some(identity) = device.identity() {
        return identity.name;
    }
    format!("{device:?}")
}

fn computes_in(device: &burn::tensor::Device, activations: Activations) -> bool {
    device.supports_dtype(burn::tensor::DType::from(float_type(activations)))
}

/// Opens a device of this build, without autodiff. `auto` is the processor: no card was measured.
///
/// # Errors
/// A sentence: the build lacks it, or the machine.
pub fn open(device: Device) -> Result<burn::tensor::Device, String> {
    match device {
        Device::Cpu | Device::Auto => Ok(burn::tensor::Device::flex()),
        Device::Vulkan(number) => Cards::Vulkan.open(number),
        Device::Cuda(number) => Cards::Cuda.open(number),
    }
}

/// Burn's name of an activation type.
pub fn float_type(activations: Activations) -> FloatDType {
    match activations {
        Activations::F32 => FloatDType::F32,
        Activations::Bf16 => FloatDType::BF16,
        Activations::F16 => FloatDType::F16,
    }
}

/// Refuses an activation type that the device cannot compute in.
///
/// # Errors
/// A sentence with the way out.
pub fn check_type(device: &burn::tensor::Device, name: Device, activations: Activations) -> Result<(), String> {
    // The processor's own operations store any of the three and compute in f32.
    let can = name == Device::Cpu || computes_in(device, activations);
    if can { Ok(()) } else { Err(refusal(name, activations)) }
}

/// Why a device cannot train with an activation type, and what to do.
fn refusal(name: Device, activations: Activations) -> String {
    format!("{name} cannot compute in {activations}; set precision.activations = \"f32\" or take another device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_takes_every_type_and_a_device_without_one_says_so() {
        let processor = open(Device::Cpu).unwrap();
        for activations in [Activations::F32, Activations::Bf16, Activations::F16] {
            assert_eq!(check_type(&processor, Device::Cpu, activations), Ok(()));
        }
        for (device, cards) in [(Device::Vulkan(254), Cards::Vulkan), (Device::Cuda(254), Cards::Cuda)] {
            let text = open(device).unwrap_err();
            assert_eq!(text.contains("is not in this build"), !cards.built(), "{text}");
        }
        let text = refusal(Device::Vulkan(0), Activations::Bf16);
        assert!(text.contains("vulkan:0 cannot compute in bf16; set precision.activations = \"f32\""), "{text}");
    }
}
