//! What of a case lies outside of what was trained on.
use std::io;

use crate::dataset::prepare::StoredImage;
use crate::train::LoadedRun;
use crate::volume::normalise::Normalisation;

/// Of its spacing in mm, x, y, z.
pub fn of_spacing(plan: &LoadedRun, spacing: [f64; 3]) -> Vec<String> {
    let [low, high] = plan.spacing_range;
    ["x", "y", "z"]
        .into_iter()
        .enumerate()
        // 10 % beyond is within what rotation and scaling show the network.
        .filter(|(axis, _)| spacing[*axis] < low[*axis] * 0.9 || spacing[*axis] > high[*axis] * 1.1)
        .map(|(axis, name)| {
            format!(
                "spacing {:.3} mm along {name} is outside the {:.3} to {:.3} mm trained on",
                spacing[axis], low[axis], high[axis]
            )
        })
        .collect()
}

/// Of its intensities.
pub fn of_image(normalisation: &[Normalisation], image: &StoredImage) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (channel, normalisation) in normalisation.iter().enumerate() {
        if let Normalisation::Ct { low, high, mean, deviation } = normalisation {
            let bounds = [low, high].map(|bound| ((bound - mean) / deviation.max(1e-8)) as f32);
            let (mut inside, mut all) = (0u64, 0u64);
            image.visit(channel, |value| {
                all += 1;
                inside += u64::from(value > bounds[0] && value < bounds[1]);
            })?;
            if (inside as f64) < 0.01 * all as f64 {
                warnings.push(format!(
                    "channel {channel}: fewer than 1 % of voxels lie within the {low:.0} to {high:.0} HU trained on"
                ));
            }
        } else {
            let mut constant = true;
            image.visit(channel, |value| constant &= value == 0.0)?;
            if constant {
                warnings.push(format!("channel {channel} is constant"));
            }
        }
    }
    Ok(warnings)
}
