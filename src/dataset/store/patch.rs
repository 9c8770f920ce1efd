//! A prepared case, and patches read from it.
use std::fs::File;
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array3, Array4, ArrayViewMut3, s};
use sha2::{Digest, Sha256};

use super::format::{self, CaseHeader, ImageScalar, LabelScalar, Parts, damaged, read_at};
use crate::dataset::DatasetError;
use crate::files;

/// One prepared case, from which patches are read at their place. The file is opened for each patch, so that a dataset
/// of thousands of cases does not need as many open files.
#[derive(Clone, Debug)]
pub struct StoredCase {
    path: PathBuf,
    header: CaseHeader,
    parts: Parts,
    classes: Vec<u16>,
    /// Per entry of `classes`; places in `[z, y, x]` order.
    locations: Vec<Vec<u32>>,
}

impl StoredCase {
    /// Reads the locations of a case whose header is sound, and keeps one in `share` of each list, evenly.
    pub(super) fn open(path: PathBuf, (header, parts): (CaseHeader, Parts), share: u64) -> Result<Self, DatasetError> {
        let file = File::open(&path).map_err(DatasetError::cache(&path))?;
        let voxels = crate::dataset::read::voxels(header.size);
        let mut hash = Sha256::new();
        let mut offset = parts.locations;
        let mut locations = Vec::with_capacity(header.classes.len());
        for &(_, count) in &header.classes {
            let mut places = vec![0_u32; count as usize];
            read_at(&path, &file, &mut places, offset)?;
            offset += 4 * u64::from(count);
            places.iter().for_each(|place| hash.update(place.to_le_bytes()));
            if places.iter().any(|&place| u64::from(place) >= voxels) {
                return Err(damaged(&path, "locations", "stand outside the case"));
            }
            if share > 1 {
                let kept = u64::from(count).div_ceil(share);
                places = (0..kept).map(|index| places[(index * share) as usize]).collect();
            }
            locations.push(places);
        }
        if files::hex(&hash.finalize()) != header.locations_sha256 {
            return Err(damaged(&path, "locations", "do not match their checksum"));
        }
        let classes = header.classes.iter().map(|&(class, _)| class).collect();
        Ok(Self { path, header, parts, classes, locations })
    }

    /// The case's id.
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Voxels z, y, x.
    pub fn size(&self) -> [usize; 3] {
        self.header.size
    }

    /// Channels of its image.
    pub fn channels(&self) -> usize {
        self.header.channels
    }

    /// Classes (1..) that have a voxel in this case, ascending.
    pub fn classes_present(&self) -> &[u16] {
        &self.classes
    }

    fn places(&self, class: u16) -> &[u32] {
        self.classes.binary_search(&class).map_or(&[], |index| &self.locations[index])
    }

    /// How many locations of `class` are kept for sampling.
    pub fn location_count(&self, class: u16) -> usize {
        self.places(class).len()
    }

    /// Location `index` of `class`, voxel z, y, x; `index` is below [`location_count`](Self::location_count).
    pub fn location(&self, class: u16, index: usize) -> [usize; 3] {
        let place = self.places(class)[index] as usize;
        let [_, height, width] = self.header.size;
        [place / (height * width), place / width % height, place % width]
    }

    /// The box from `start` (z, y, x, may be negative) of `size` voxels: image `[channel, z, y, x]` and label
    /// `[z, y, x]`; outside the case the image is `0` and the label `outside`.
    ///
    /// # Errors
    /// A file that is gone, cut or cannot be read, by name.
    pub fn read_patch(
        &self,
        start: [isize; 3],
        size: [usize; 3],
        outside: u16,
    ) -> Result<(Array4<f32>, Array3<u16>), DatasetError> {
        let mut image = Array4::zeros((self.header.channels, size[0], size[1], size[2]));
        let mut labels = Array3::from_elem(size, outside);
        let Some(overlap) = Overlap::new(start, size, self.header.size) else { return Ok((image, labels)) };
        let file = File::open(&self.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged(&self.path, "file", "is gone"),
            _ => DatasetError::Cache { path: self.path.clone(), source: error },
        })?;
        for (channel, image) in image.outer_iter_mut().enumerate() {
            let first = channel * self.header.size[0];
            match self.header.image {
                ImageScalar::F16 => {
                    self.fill(&file, self.parts.image, first, &overlap, image, |from: &[f16], to| {
                        from.convert_to_f32_slice(to);
                    })?
                }
                ImageScalar::F32 => {
                    self.fill(&file, self.parts.image, first, &overlap, image, |from: &[f32], to| {
                        to.copy_from_slice(from)
                    })?
                }
            }
        }
        let view = labels.view_mut();
        match self.header.label {
            LabelScalar::U8 => {
                self.fill(&file, self.parts.labels, 0, &overlap, view, |from: &[u8], to: &mut [u16]| {
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
                })?
            }
            LabelScalar::U16 => {
                self.fill(&file, self.parts.labels, 0, &overlap, view, |from: &[u16], to| to.copy_from_slice(from))?
            }
        }
        Ok((image, labels))
    }

    /// Fills the `overlap` of a patch `[z, y, x]` from the part of the file at `part`, where the volume begins at plane
    /// `first`. Each plane is one read, from the first row's first voxel to the last row's last.
    fn fill<T: Pod, U>(
        &self,
        file: &File,
        part: u64,
        first: usize,
        overlap: &Overlap,
        mut patch: ArrayViewMut3<'_, U>,
        convert: impl Fn(&[T], &mut [U]),
    ) -> Result<(), DatasetError> {
        let [_, height, width] = self.header.size;
        let [depth, rows, row] = overlap.size;
        let mut plane = vec![T::zeroed(); (rows - 1) * width + row];
        let [_, y, x] = overlap.from;
        for z in 0..depth {
            let voxel = ((first + overlap.from[0] + z) as u64 * height as u64 + y as u64) * width as u64 + x as u64;
            read_at(&self.path, file, &mut plane, part + voxel * size_of::<T>() as u64)?;
            let [to_z, to_y, to_x] = overlap.to;
            for (y, from) in plane.chunks(width).enumerate() {
                let to = patch.slice_mut(s![to_z + z, to_y + y, to_x..to_x + row]).into_slice();
                convert(&from[..row], to.expect("a row of a patch made here is contiguous"));
            }
        }
        Ok(())
    }

    /// Reads the whole file and compares it with its checksum.
    ///
    /// # Errors
    /// A file that cannot be read or was changed, by name.
    pub fn verify(&self) -> Result<(), DatasetError> {
        let file = File::open(&self.path).map_err(DatasetError::cache(&self.path))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0_u8; 1 << 18];
        let end = self.parts.end - format::TRAILER;
        let mut offset = 0;
        while offset < end {
            let count = (end - offset).min(buffer.len() as u64) as usize;
            read_at(&self.path, &file, &mut buffer[..count], offset)?;
            hash.update(&buffer[..count]);
            offset += count as u64;
        }
        let mut expected = [0_u8; format::TRAILER as usize];
        read_at(&self.path, &file, &mut expected, end)?;
        if hash.finalize()[..] != expected {
            return Err(damaged(&self.path, "voxels", "do not match their checksum"));
        }
        Ok(())
    }
}

/// The part of a patch that lies in the case.
struct Overlap {
    /// First voxel in the case, z, y, x.
    from: [usize; 3],
    /// First voxel in the patch, z, y, x.
    to: [usize; 3],
    /// Voxels, each at least 1.
    size: [usize; 3],
}

impl Overlap {
    fn new(start: [isize; 3], size: [usize; 3], case: [usize; 3]) -> Option<Self> {
        let mut overlap = Self { from: [0; 3], to: [0; 3], size: [0; 3] };
        for axis in 0..3 {
            let from = usize::try_from(start[axis]).unwrap_or(0);
            let to = if start[axis] < 0 { start[axis].unsigned_abs() } else { 0 };
            let voxels = size[axis].saturating_sub(to).min(case[axis].saturating_sub(from));
            if voxels == 0 {
                return None;
            }
            (overlap.from[axis], overlap.to[axis], overlap.size[axis]) = (from, to, voxels);
        }
        Some(overlap)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{format, write};
    use super::StoredCase;
    use ndarray::{Array3, Array4};

    #[test]
    fn long_lists_of_locations_are_thinned_evenly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000.case");
        let labels = Array3::from_shape_fn((3, 4, 5), |(z, y, _)| u16::from(z > 0) + u16::from(z == 2 && y == 3));
        write::case(&path, "key", "a", Array4::zeros((1, 3, 4, 5)), &labels, None).unwrap();
        let open =
            |share| StoredCase::open(path.clone(), format::read_header(&path, "key", "a").unwrap(), share).unwrap();
        let counts = |case: &StoredCase| [case.location_count(1), case.location_count(2)];
        let (all, third) = (open(1), open(3));
        assert_eq!((counts(&all), counts(&third)), ([35, 5], [12, 2]));
        for (class, kept) in [(1, 12), (2, 2)] {
            (0..kept).for_each(|index| assert_eq!(third.location(class, index), all.location(class, 3 * index)));
        }
        for (key, id) in [("other", "a"), ("key", "b")] {
            let error = format::read_header(&path, key, id).unwrap_err().to_string();
            assert!(
                error.contains("00000.case: header: belongs to another store or case; remove this file"),
                "{error}"
            );
        }
    }

    /// Whatever a file holds, it is refused and not trusted: no panic, no large allocation.
    #[test]
    fn a_file_of_anything_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000.case");
        write::case(&path, "key", "a", Array4::zeros((1, 3, 4, 5)), &Array3::from_elem((3, 4, 5), 1), None).unwrap();
        let sound = std::fs::read(&path).unwrap();
        let (header, parts) = format::read_header(&path, "key", "a").unwrap();
        for at in 0..parts.locations as usize {
            let mut bytes = sound.clone();
            bytes[at] = !bytes[at];
            std::fs::write(&path, bytes).unwrap();
            assert!(format::read_header(&path, "key", "a").is_err(), "byte {at}");
        }
        for length in 0..sound.len() {
            std::fs::write(&path, &sound[..length]).unwrap();
            assert!(format::read_header(&path, "key", "a").is_err(), "length {length}");
        }
        let mut bytes = sound;
        bytes[parts.locations as usize] = 59;
        std::fs::write(&path, &bytes).unwrap();
        let open = || StoredCase::open(path.clone(), (header.clone(), parts), 1).unwrap_err().to_string();
        assert!(open().contains("do not match their checksum"), "{}", open());
        bytes[parts.locations as usize + 3] = 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open().contains("stand outside the case"), "{}", open());
        let impossible = format::CaseHeader { size: [usize::MAX, 2, 2], ..header };
        assert!(impossible.parts(100).is_none());
    }
}
