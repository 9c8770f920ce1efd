//! Checks a header before anything is allocated from it.
use std::path::Path;

use super::Geometry;
use super::error::VolumeError;
use super::fields::{Fields, Version};
use super::native::NativeGrid;
use super::orientation::{self, Affine, Axes};
use super::scalar::Scalar;
use super::source::{Source, TAKE_AGAIN};

/// Millimetres between voxels. What is outside is no image of a patient but a header in another unit or a damaged one, and
/// resampling it would ask for any number of voxels.
const SPACING: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// Voxels begin at most here: what is before them is a header with its extensions, and is unpacked only to be passed over.
const FARTHEST_VOXEL: u64 = 256 << 20;

/// A header of which every number is safe to use: sizes fit the file and the address space.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) native: NativeGrid,
    pub(super) geometry: Geometry,
    pub(super) scalar: Scalar,
    pub(super) big_endian: bool,
    /// Position of the first voxel in the file that holds them, in bytes after decompression.
    pub(super) offset: u64,
    /// Slope and intercept; None where values count as stored.
    pub(super) scaling: Option<(f64, f64)>,
    /// Product of the dimensions after the third.
    pub(super) volumes: usize,
    /// The first of these dimensions that is above 1, else 4.
    pub(super) volume_axis: usize,
}

impl Checked {
    /// Reads and checks the header at the start of `source`; the voxels are in `voxels` where they have a file of their own.
    pub(super) fn read(source: &mut Source, voxels: Option<&Source>) -> Result<Self, VolumeError> {
        let fields = Fields::read(source, voxels.is_some())?;
        let source = &*source;
        let path = source.path();
        let (rank, size, volumes, count) = dimensions(path, &fields)?;
        let scalar = Scalar::from_code(path, fields.datatype)?;
        if i64::from(fields.bitpix) != 8 * scalar.bytes() as i64 {
            let problem = format!("{} bits per voxel, {} has {}", fields.bitpix, scalar.name(), 8 * scalar.bytes());
            return Err(VolumeError::invalid(path, "bitpix", problem, TAKE_AGAIN));
        }
        let least = if voxels.is_some() { 0 } else { fields.version.header_bytes() as u64 + 4 };
        let offset = offset(path, &fields, least)?;
        let end = count.checked_mul(scalar.bytes() as u64).and_then(|bytes| bytes.checked_add(offset));
        let Some(end) = end else { return Err(too_large(path, &fields)) };
        let holder = voxels.unwrap_or(source);
        holder.check_holds("vox_offset", offset)?;
        holder.check_holds("dim", end)?;
        if offset > FARTHEST_VOXEL {
            let problem = format!("{offset}, more than {FARTHEST_VOXEL} bytes before the first voxel");
            return Err(VolumeError::invalid(path, "vox_offset", problem, TAKE_AGAIN));
        }
        let affine = orientation::affine(path, &fields.placement, rank)?;
        check_spacing(path, &fields, rank, &affine)?;
        let axes = Axes::closest(&affine);
        Ok(Self {
            geometry: axes.geometry(size, &affine),
            scalar,
            big_endian: fields.big_endian,
            offset,
            scaling: scaling(path, &fields)?,
            volumes,
            volume_axis: (4..=rank).find(|&axis| fields.dim[axis] > 1).unwrap_or(4),
            native: NativeGrid {
                version: fields.version,
                // Trailing dimensions of 1 are kept; those of a 4D volume are not the grid's.
                rank: if volumes == 1 { rank } else { 3 },
                size,
                axes,
                placement: fields.placement,
            },
        })
    }
}

/// dim[0], the three spatial sizes, the product of the others and the product of all.
fn dimensions(path: &Path, fields: &Fields) -> Result<(usize, [usize; 3], usize, u64), VolumeError> {
    // `Fields` has made sure that dim[0] is from 2 to 7.
    let rank = fields.dim[0].clamp(2, 7) as usize;
    let mut size = [1usize; 3];
    let mut volumes = 1u64;
    let mut count = 1u64;
    for (axis, &value) in fields.dim.iter().enumerate().take(rank + 1).skip(1) {
        if value < 1 {
            let problem = format!("{value} voxels, a dimension has at least 1");
            return Err(VolumeError::invalid(path, format!("dim[{axis}]"), problem, TAKE_AGAIN));
        }
        let value = value.unsigned_abs();
        // Counted in f64 voxels so that no later product of bytes overflows either.
        count = count
            .checked_mul(value)
            .filter(|count| *count <= isize::MAX as u64 / size_of::<f64>() as u64)
            .ok_or_else(|| too_large(path, fields))?;
        match axis {
            1..=3 => size[axis - 1] = value as usize,
            _ => volumes *= value,
        }
    }
    Ok((rank, size, volumes as usize, count))
}

fn too_large(path: &Path, fields: &Fields) -> VolumeError {
    let sizes = &fields.dim[1..=fields.dim[0].clamp(1, 7) as usize];
    VolumeError::invalid(path, "dim", format!("{sizes:?} voxels are more than any memory holds"), TAKE_AGAIN)
}

/// `least` is where voxels can begin.
fn offset(path: &Path, fields: &Fields, least: u64) -> Result<u64, VolumeError> {
    let offset = fields.vox_offset;
    // 0 is what some writers leave for "right after the header".
    if offset == 0.0 {
        return Ok(least);
    }
    if !(offset >= least as f64 && offset <= 2f64.powi(52) && offset.fract() == 0.0) {
        let problem = format!("{offset}, expected a whole number of at least {least}");
        return Err(VolumeError::invalid(path, "vox_offset", problem, TAKE_AGAIN));
    }
    Ok(offset as u64)
}

/// Refuses a spacing outside of [`SPACING`] along any of the file's own axes; `affine` is in mm.
fn check_spacing(path: &Path, fields: &Fields, rank: usize, affine: &Affine) -> Result<(), VolumeError> {
    for axis in 0..rank.min(3) {
        let mm = affine.iter().map(|row| row[axis].powi(2)).sum::<f64>().sqrt();
        // The sform is stored in f32: 0.01 is not quite that there.
        if SPACING.contains(&mm) || SPACING.contains(&f64::from(mm as f32 * 1.000_001)) {
            continue;
        }
        let field = match fields.placement.sform_code > 0 {
            true => "srow_x, srow_y, srow_z".to_owned(),
            false => format!("pixdim[{}]", axis + 1),
        };
        let name = ["x", "y", "z"][axis];
        let problem = format!("voxels {mm} mm apart along {name}, read are {} to {}", SPACING.start(), SPACING.end());
        let cure = "write the true spacing and its unit (xyzt_units) into the header, or convert the volume from its source again";
        return Err(VolumeError::invalid(path, field, problem, cure));
    }
    Ok(())
}

/// A slope that is 0 or not finite means that values count as stored.
fn scaling(path: &Path, fields: &Fields) -> Result<Option<(f64, f64)>, VolumeError> {
    let (slope, inter) = (fields.scl_slope, fields.scl_inter);
    if slope == 0.0 || !slope.is_finite() || (slope, inter) == (1.0, 0.0) {
        return Ok(None);
    }
    if !inter.is_finite() {
        let problem = format!("{inter} beside a scl_slope of {slope}");
        return Err(VolumeError::invalid(
            path,
            "scl_inter",
            problem,
            "set it to the true intercept (0 where there is none)",
        ));
    }
    Ok(Some((slope, inter)))
}

/// The version that can state this size.
pub(super) fn version_for(size: [usize; 3]) -> Version {
    if size.iter().all(|&size| size <= i16::MAX as usize) { Version::One } else { Version::Two }
}
