//! From tissue to stored numbers: brightness, texture, bias field and noise.
use super::PhantomOptions;
use super::anatomy::{Anatomy, Tissue};
use super::draw::Draw;

/// Lattice points along each axis that the texture is interpolated between.
const LATTICE: usize = 12;

/// How one case is imaged.
pub struct Scanner {
    ct: bool,
    seed: u64,
    case: u64,
    size: [usize; 3],
    /// Brightness of the whole image; 1 in CT.
    gain: f64,
    /// Coefficients of x, y, z, xy, yz, zx, xx, yy, zz in the logarithm of the bias field; 0 in CT.
    bias: [f64; 9],
    /// `[z, y, x]`, -1 to 1.
    texture: Vec<f64>,
}

impl Scanner {
    pub fn draw(options: &PhantomOptions, case: u64) -> Self {
        let mut draw = Draw::new(options.seed, "phantom scanner", case, 0);
        let texture = (0..LATTICE.pow(3)).map(|_| draw.around(1.0)).collect();
        let gain = draw.between(0.8, 1.25);
        let bias = std::array::from_fn(|_| draw.around(0.08));
        let (gain, bias) = if options.ct { (1.0, [0.0; 9]) } else { (gain, bias) };
        Self { ct: options.ct, seed: options.seed, case, size: options.size, gain, bias, texture }
    }

    /// Slice `z` as it is stored: y by x, x fastest.
    pub fn slice(&self, anatomy: &Anatomy, z: usize) -> Vec<i16> {
        let mut noise = Draw::new(self.seed, "phantom noise", self.case, z as u64);
        let [width, height, _] = self.size;
        let mut slice = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let voxel = [x, y, z];
                let (first, second, share) = anatomy.tissue(voxel);
                let value = self.level(first) * (1.0 - share) + self.level(second) * share;
                let texture = self.texture_at(voxel);
                let (real, imaginary) = noise.normals();
                let value = if self.ct {
                    let texture = if first == Tissue::Air { 0.0 } else { 8.0 * texture };
                    value + texture + 12.0 * real
                } else {
                    // magnitude of a complex signal with noise in both parts (Rice)
                    let signal = value * (1.0 + 0.06 * texture) * self.gain * self.bias_at(voxel);
                    let (real, imaginary) = (signal + 20.0 * real, 20.0 * imaginary);
                    (real * real + imaginary * imaginary).sqrt()
                };
                slice.push(value.round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16);
            }
        }
        slice
    }

    /// HU in CT, arbitrary units in MRI.
    fn level(&self, tissue: Tissue) -> f64 {
        let (ct, mri) = match tissue {
            Tissue::Air => (-1000.0, 0.0),
            Tissue::Soft => (40.0, 350.0),
            Tissue::Bright => (130.0, 620.0),
            Tissue::Dark => (-70.0, 150.0),
            Tissue::Bone => (700.0, 150.0),
        };
        if self.ct { ct } else { mri }
    }

    fn bias_at(&self, voxel: [usize; 3]) -> f64 {
        let [x, y, z]: [f64; 3] =
            std::array::from_fn(|axis| (voxel[axis] as f64 + 0.5) / self.size[axis] as f64 * 2.0 - 1.0);
        let terms = [x, y, z, x * y, y * z, z * x, x * x, y * y, z * z];
        let mut sum = 0.0;
        for (coefficient, term) in self.bias.iter().zip(terms) {
            sum += coefficient * term;
        }
        libm::exp(sum)
    }

    /// Smooth noise: the lattice, interpolated linearly.
    fn texture_at(&self, voxel: [usize; 3]) -> f64 {
        let along: [(usize, f64); 3] = std::array::from_fn(|axis| {
            let at = (voxel[axis] as f64 + 0.5) / self.size[axis] as f64 * (LATTICE - 1) as f64;
            let below = (at.floor() as usize).min(LATTICE - 2);
            (below, at - below as f64)
        });
        let mut sum = 0.0;
        for corner in 0..8_usize {
            let mut weight = 1.0;
            let index = [0, 1, 2].map(|axis| {
                let above = corner >> axis & 1;
                weight *= if above == 1 { along[axis].1 } else { 1.0 - along[axis].1 };
                along[axis].0 + above
            });
            sum += weight * self.texture[(index[2] * LATTICE + index[1]) * LATTICE + index[0]];
        }
        sum
    }
}
