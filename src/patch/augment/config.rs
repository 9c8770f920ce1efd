//! The `[augment]` tables of the configuration: one per transform, nnU-Net's probabilities and ranges as defaults.
use serde::{Deserialize, Serialize};

/// Lowest and highest value of a draw.
pub type Range = [f64; 2];

/// Declares a table whose keys not given take nnU-Net's value.
macro_rules! table {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $kind:ty = $value:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$doc])* pub $key: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $value,)* }
            }
        }
    };
}

table! {
    /// Rotation about the patch's centre.
    RotationConfig {
        /// Of a sample.
        probability: f64 = 0.2,
        /// Angle about each of the three axes, degrees.
        degrees: Range = [-30.0, 30.0],
        /// Angle about the thin axis, the only one turned about, of a patch more than three times as long as thin; degrees.
        in_plane_degrees: Range = [-180.0, 180.0],
    }
}
table! {
    /// Scaling about the patch's centre, one factor for all axes (not along the thin axis of a flat patch).
    ScaleConfig {
        /// Of a sample.
        probability: f64 = 0.2,
        /// Of the field of view: above 1 structures become smaller.
        factor: Range = [0.7, 1.4],
    }
}
table! {
    /// Rotation and scaling, done together in one resampling.
    SpatialConfig {
        /// Turned by an angle.
        rotation: RotationConfig = RotationConfig::default(),
        /// Made larger or smaller.
        scale: ScaleConfig = ScaleConfig::default(),
    }
}
table! {
    /// Gaussian noise, one strength for all channels.
    NoiseConfig {
        /// Of a sample.
        probability: f64 = 0.1,
        /// Standard deviation in units of the normalised image (nnU-Net names it a variance and uses it as this).
        sigma: Range = [0.0, 0.1],
    }
}
table! {
    /// Gaussian blur.
    BlurConfig {
        /// Of a sample.
        probability: f64 = 0.2,
        /// Of each channel, once the sample is blurred.
        channel_probability: f64 = 0.5,
        /// Of each axis, voxels.
        sigma: Range = [0.5, 1.0],
    }
}
table! {
    /// Every voxel times a factor, drawn per channel.
    BrightnessConfig {
        /// Of a sample.
        probability: f64 = 0.15,
        /// Of every voxel.
        factor: Range = [0.75, 1.25],
    }
}
table! {
    /// The distance from the channel's mean times a factor, drawn per channel, cut off at the old smallest and largest.
    ContrastConfig {
        /// Of a sample.
        probability: f64 = 0.15,
        /// Of the distance from the mean.
        factor: Range = [0.75, 1.25],
    }
}
table! {
    /// Sampled down to the nearest voxel and up again linearly.
    LowResolutionConfig {
        /// Of a sample.
        probability: f64 = 0.25,
        /// Of each channel, once the sample is taken.
        channel_probability: f64 = 0.5,
        /// Of the edge, one for all axes (the thin axis of a flat patch keeps its own).
        scale: Range = [0.5, 1.0],
    }
}
table! {
    /// The image's range to the power of gamma, drawn per channel, keeping mean and standard deviation.
    GammaConfig {
        /// Of a sample.
        probability: f64 = 0.3,
        /// The exponent.
        gamma: Range = [0.7, 1.5],
    }
}
table! {
    /// Mirroring.
    MirrorConfig {
        /// Of each axis.
        probability: f64 = 0.5,
        /// Axes that may be mirrored; leave out "x" where left and right are different classes.
        axes: Vec<MirrorAxis> = vec![MirrorAxis::X, MirrorAxis::Y, MirrorAxis::Z],
    }
}
table! {
    /// One table per transform, nnU-Net's probabilities and ranges as defaults. Applied in this order.
    AugmentConfig {
        /// `false` switches all off.
        enabled: bool = true,
        /// Rotation and scaling.
        spatial: SpatialConfig = SpatialConfig::default(),
        /// Gaussian noise.
        noise: NoiseConfig = NoiseConfig::default(),
        /// Gaussian blur.
        blur: BlurConfig = BlurConfig::default(),
        /// Brighter or darker.
        brightness: BrightnessConfig = BrightnessConfig::default(),
        /// More or less contrast.
        contrast: ContrastConfig = ContrastConfig::default(),
        /// Coarser, on the same grid.
        low_resolution: LowResolutionConfig = LowResolutionConfig::default(),
        /// Gamma of the negative image.
        gamma_inverted: GammaConfig = GammaConfig { probability: 0.1, ..GammaConfig::default() },
        /// Gamma of the image as it is.
        gamma: GammaConfig = GammaConfig::default(),
        /// Mirroring; last.
        mirror: MirrorConfig = MirrorConfig::default(),
    }
}

/// An axis as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MirrorAxis {
    /// Left and right.
    X,
    /// Front and back.
    Y,
    /// Feet and head.
    Z,
}

impl MirrorConfig {
    /// Which axes may be mirrored, z, y, x.
    pub fn allowed(&self) -> [bool; 3] {
        [MirrorAxis::Z, MirrorAxis::Y, MirrorAxis::X].map(|axis| self.axes.contains(&axis))
    }
}

impl AugmentConfig {
    /// Nothing is ever changed.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Axes along which samples are mirrored at all, z, y, x: what a network has learnt to see in a mirror.
    pub fn mirrors(&self) -> [bool; 3] {
        let mirrors = self.enabled && self.mirror.probability > 0.0;
        self.mirror.allowed().map(|allowed| allowed && mirrors)
    }

    /// Whether a sample may be rotated or scaled.
    pub fn moves_voxels(&self) -> bool {
        self.enabled && (self.spatial.rotation.probability > 0.0 || self.spatial.scale.probability > 0.0)
    }

    /// Checks every probability and range, also where `enabled` is false.
    ///
    /// # Errors
    /// A sentence with the key, what it holds and what it may hold, for the first fault.
    pub fn validate(&self) -> Result<(), String> {
        let probabilities = [
            ("spatial.rotation.probability", self.spatial.rotation.probability),
            ("spatial.scale.probability", self.spatial.scale.probability),
            ("noise.probability", self.noise.probability),
            ("blur.probability", self.blur.probability),
            ("blur.channel_probability", self.blur.channel_probability),
            ("brightness.probability", self.brightness.probability),
            ("contrast.probability", self.contrast.probability),
            ("low_resolution.probability", self.low_resolution.probability),
            ("low_resolution.channel_probability", self.low_resolution.channel_probability),
            ("gamma_inverted.probability", self.gamma_inverted.probability),
            ("gamma.probability", self.gamma.probability),
            ("mirror.probability", self.mirror.probability),
        ];
        for (key, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("augment.{key} is {value}, it must be from 0 (never) to 1 (always)"));
            }
        }
        let ranges = [
            ("spatial.rotation.degrees", self.spatial.rotation.degrees, [-180.0, 180.0]),
            ("spatial.rotation.in_plane_degrees", self.spatial.rotation.in_plane_degrees, [-180.0, 180.0]),
            ("spatial.scale.factor", self.spatial.scale.factor, [0.1, 10.0]),
            ("noise.sigma", self.noise.sigma, [0.0, 10.0]),
            ("blur.sigma", self.blur.sigma, [0.1, 10.0]),
            ("brightness.factor", self.brightness.factor, [0.0, 10.0]),
            ("contrast.factor", self.contrast.factor, [0.0, 10.0]),
            ("low_resolution.scale", self.low_resolution.scale, [0.05, 1.0]),
            ("gamma_inverted.gamma", self.gamma_inverted.gamma, [0.1, 10.0]),
            ("gamma.gamma", self.gamma.gamma, [0.1, 10.0]),
        ];
        ranges.into_iter().try_for_each(|(key, range, allowed)| check_range(key, range, allowed))
    }
}

fn check_range(key: &str, [low, high]: Range, [least, most]: Range) -> Result<(), String> {
    if low > high {
        return Err(format!("augment.{key} is [{low}, {high}], lowest first: write [{high}, {low}]"));
    }
    // also false for NaN
    if low >= least && high <= most {
        return Ok(());
    }
    Err(format!("augment.{key} is [{low}, {high}], both ends must be numbers from {least} to {most}"))
}
