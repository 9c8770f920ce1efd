//! Augmentation: each transform draws its parameters from a stream and hands them to a pure function.
//!
//! What is drawn, and what a transform does with it, follows nnU-Net's training pipeline on batchgeneratorsv2 0.3.6.
//! Exponentials, powers, logarithms and sines come from the `libm` crate and sums run in a fixed order, so a sample is
//! the same on every platform.
pub mod blur;
pub mod brightness;
pub mod config;
pub mod contrast;
mod crop;
pub mod gamma;
mod lines;
pub mod low_resolution;
pub mod mirror;
pub mod noise;
mod power;
mod resample;
pub mod spatial;
mod stats;

pub use config::AugmentConfig;
use rand_chacha::ChaCha8Rng;

use super::Sample;

/// All that was drawn for one sample; `None` is a transform that leaves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Rotation and scaling.
    pub spatial: Option<spatial::Params>,
    /// Noise.
    pub noise: Option<noise::Params>,
    /// Blur.
    pub blur: Option<blur::Params>,
    /// Brightness.
    pub brightness: Option<brightness::Params>,
    /// Contrast.
    pub contrast: Option<contrast::Params>,
    /// Low resolution.
    pub low_resolution: Option<low_resolution::Params>,
    /// Gamma of the negative image.
    pub gamma_inverted: Option<gamma::Params>,
    /// Gamma.
    pub gamma: Option<gamma::Params>,
    /// Axes that are mirrored; none is a draw, too.
    pub mirror: mirror::Params,
}

/// Voxels (z, y, x) that are read for a patch, so that most of a rotated and scaled one has data: nnU-Net's
/// `get_patch_size`, the longest extent of the patch's far corner turned by the largest angle (at most 90 degrees)
/// about one axis at a time, over the smallest scale, where (as nnU-Net has it) scales below 0.85 count as 0.85.
///
/// Never below the patch; the patch itself where nothing is rotated or scaled, and along a flat patch's thin axis.
pub fn source_size(config: &AugmentConfig, patch: [usize; 3]) -> [usize; 3] {
    if !config.moves_voxels() {
        return patch;
    }
    let spatial = &config.spatial;
    let thin = spatial::thin_axis(patch);
    let degrees = if thin.is_some() { spatial.rotation.in_plane_degrees } else { spatial.rotation.degrees };
    let rotates = spatial.rotation.probability > 0.0;
    let angle = if rotates { degrees[0].abs().max(degrees[1].abs()).min(90.0).to_radians() } else { 0.0 };
    let (sine, cosine) = libm::sincos(angle);
    let [z, y, x] = patch.map(|size| size as f64);
    // the corner itself, then turned about axis 0, 1 and 2
    let extent = [
        z.max((cosine * z - sine * x).abs()).max(cosine * z + sine * y),
        y.max(cosine * y + sine * x).max((cosine * y - sine * z).abs()),
        x.max((cosine * x - sine * y).abs()).max(cosine * x + sine * z),
    ];
    let scale = if spatial.scale.probability > 0.0 { spatial.scale.factor[0].clamp(0.85, 1.0) } else { 1.0 };
    std::array::from_fn(|axis| {
        if thin == Some(axis) { patch[axis] } else { ((extent[axis] / scale) as usize).max(patch[axis]) }
    })
}

/// Draws for a sample of `channels` channels and `patch` voxels (z, y, x).
pub fn draw(config: &AugmentConfig, channels: usize, patch: [usize; 3], rng: &mut ChaCha8Rng) -> Drawn {
    if !config.enabled {
        return Drawn::default();
    }
    Drawn {
        spatial: spatial::draw(&config.spatial, patch, rng),
        noise: noise::draw(&config.noise, rng),
        blur: blur::draw(&config.blur, channels, rng),
        brightness: brightness::draw(&config.brightness, channels, rng),
        contrast: contrast::draw(&config.contrast, channels, rng),
        low_resolution: low_resolution::draw(&config.low_resolution, channels, spatial::thin_axis(patch), rng),
        gamma_inverted: gamma::draw(&config.gamma_inverted, true, channels, rng),
        gamma: gamma::draw(&config.gamma, false, channels, rng),
        mirror: mirror::draw(&config.mirror, rng),
    }
}

/// Makes a sample of `patch` voxels (z, y, x) of one read at [`source_size`], with what was drawn.
///
/// Labels keep their values (an ignore label too); where a turned patch reaches beyond the source the image is 0 and
/// the label background, as in nnU-Net.
pub fn apply(drawn: &Drawn, sample: Sample, patch: [usize; 3]) -> Sample {
    let mut sample = match &drawn.spatial {
        Some(params) => spatial::apply(params, &sample, patch),
        None => crop::centre(sample, patch),
    };
    let image = &mut sample.image;
    // the transforms below work on slices
    if !image.is_standard_layout() {
        *image = image.as_standard_layout().into_owned();
    }
    drawn.noise.iter().for_each(|params| noise::apply(params, image));
    drawn.blur.iter().for_each(|params| blur::apply(params, image));
    drawn.brightness.iter().for_each(|params| brightness::apply(params, image));
    drawn.contrast.iter().for_each(|params| contrast::apply(params, image));
    drawn.low_resolution.iter().for_each(|params| low_resolution::apply(params, image));
    drawn.gamma_inverted.iter().for_each(|params| gamma::apply(params, image));
    drawn.gamma.iter().for_each(|params| gamma::apply(params, image));
    mirror::apply(&drawn.mirror, sample)
}

/// Augments a sample read at [`source_size`] into one of `patch` voxels (z, y, x): [`draw`], then [`apply`].
pub fn augment(config: &AugmentConfig, sample: Sample, patch: [usize; 3], rng: &mut ChaCha8Rng) -> Sample {
    let drawn = draw(config, sample.image.dim().0, patch, rng);
    apply(&drawn, sample, patch)
}
