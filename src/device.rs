//! From a device's name to Burn's device. Never Burn's default: that depends on the build.
use burn::tensor::FloatDType;

use crate::config::{Activations, Device};

/// Opens a device of this build, without autodiff.
///
/// # Errors
/// A sentence: the build lacks it.
pub fn open(device: Device) -> Result<burn::tensor::Device, String> {
    match device {
        Device::Cpu => Ok(burn::tensor::Device::flex()),
        #[cfg(feature = "cuda")]
        Device::Auto | Device::Cuda(_) => {
            let index = if let Device::Cuda(index) = device { index } else { 0 };
            Ok(burn::tensor::Device::cuda(index))
        }
        #[cfg(all(feature = "vulkan", not(feature = "cuda")))]
        Device::Auto => Ok(burn::tensor::Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        Device::Vulkan(0) => Ok(burn::tensor::Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        Device::Vulkan(index) => Ok(burn::tensor::Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index - 1))),
        #[cfg(not(any(feature = "cuda", feature = "vulkan")))]
        Device::Auto => Ok(burn::tensor::Device::flex()),
        #[allow(unreachable_patterns, reason = "which devices remain depends on the features")]
        other => Err(format!("{other} is not in this build; `voxfit devices` lists what is")),
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
    let can = name == Device::Cpu || device.supports_dtype(burn::tensor::DType::from(float_type(activations)));
    if can { Ok(()) } else { Err(refusal(name, activations)) }
}

/// Why a device cannot train with an activation type, and what to do.
fn refusal(name: Device, activations: Activations) -> String {
    let kind = format!("{activations:?}").to_lowercase();
    format!("{name} cannot compute in {kind}; set precision.activations = \"f32\" or take another device")
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
        let text = refusal(Device::Vulkan(0), Activations::Bf16);
        assert!(text.contains("vulkan:0 cannot compute in bf16; set precision.activations = \"f32\""), "{text}");
    }
}
