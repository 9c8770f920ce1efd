//! Volumes plane by plane, in memory or, where there is no room for them, in a scratch file.
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, s};

/// How many bytes of volumes may be in memory, and where those go that may not.
///
/// What is decided is where numbers lie, never what they are.
#[derive(Clone, Debug)]
pub struct Storage {
    /// `None` without end.
    budget: Option<u64>,
    held: Arc<AtomicU64>,
    folder: PathBuf,
}

impl Storage {
    /// `budget` bytes for volumes in memory (`None` without end); scratch files are made in `folder`.
    pub fn new(budget: Option<u64>, folder: &Path) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { budget, held: Arc::default(), folder: folder.to_owned() }
    }

    /// Everything in memory.
    pub fn unbounded() -> Self {
        Self::new(None, Path::new(""))
    }

    /// The most bytes of volumes in memory; `None` without end.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// Where scratch files are made.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of volumes in memory now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// A volume of zeros, `[channel, z, y, x]`, in memory where `later` bytes of the budget stay free beside it. `name` says
    /// what it is for.
    ///
    /// # Errors
    /// A scratch file that cannot be made.
    pub fn zeros<T: Pod>(&self, name: &str, shape: [usize; 4], later: u64) -> io::Result<Planes<T>> {
        let too_large =
            || io::Error::new(io::ErrorKind::OutOfMemory, format!("{name}: more bytes than can be counted"));
        let count = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size)).ok_or_else(too_large)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(too_large)? as u64;
        let fits = self.budget.is_none_or(|budget| self.held().saturating_add(bytes).saturating_add(later) <= budget);
        let fits = fits && is_free::<T>(count, bytes);
        tracing::debug!("{name}: {} MiB {}", bytes.div_ceil(1 << 20), if fits { "in memory" } else { "in a file" });
        let place = if fits {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            Place::Memory { values: vec![T::zeroed(); count], bytes, held: self.held.clone() }
        } else {
            self.file(bytes)?
        };
        Ok(Planes { shape, place, kind: PhantomData })
    }

    fn file<T>(&self, bytes: u64) -> io::Result<Place<T>> {
        std::fs::create_dir_all(&self.folder)?;
        // It has no name, or none for long: whatever ends the process, the system removes it.
        let file = tempfile::tempfile_in(&self.folder)?;
        file.set_len(bytes)?;
        Ok(Place::File(file))
    }
}

/// Whether the machine has so much, whatever the budget says. Pages are handed out only when written: without this, more than
/// there is would bring it down. The trial is for limits on address space; `vec!` would end the process.
fn is_free<T>(count: usize, bytes: u64) -> bool {
    let free = crate::memory::machine::memory().available;
    free.is_none_or(|free| bytes <= free) && Vec::<T>::new().try_reserve_exact(count).is_ok()
}

#[derive(Debug)]
enum Place<T> {
    Memory { values: Vec<T>, bytes: u64, held: Arc<AtomicU64> },
    File(File),
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if let Self::Memory { bytes, held, .. } = self {
            held.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// A volume `[channel, z, y, x]`, x fastest.
#[derive(Debug)]
pub struct Planes<T> {
    shape: [usize; 4],
    place: Place<T>,
    kind: PhantomData<T>,
}

impl<T: Pod> Planes<T> {
    /// Channels, and voxels z, y, x.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Voxels, z, y, x.
    pub fn size(&self) -> [usize; 3] {
        let [_, z, y, x] = self.shape;
        [z, y, x]
    }

    /// Whether it lies in memory, and not in a scratch file.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory { .. })
    }

    /// Place of a row's voxel among all.
    fn place_of(&self, channel: usize, z: usize, y: usize, x: usize) -> usize {
        let [_, depth, height, width] = self.shape;
        ((channel * depth + z) * height + y) * width + x
    }

    fn read_at(&self, at: usize, values: &mut [T]) -> io::Result<()> {
        match &self.place {
            Place::Memory { values: all, .. } => {
                values.copy_from_slice(all.get(at..at + values.len()).ok_or_else(outside)?);
                Ok(())
            }
            Place::File(file) => positioned::read(file, bytemuck::cast_slice_mut(values), (at * size_of::<T>()) as u64),
        }
    }

    fn write_at(&mut self, at: usize, values: &[T]) -> io::Result<()> {
        match &mut self.place {
            Place::Memory { values: all, .. } => {
                all.get_mut(at..at + values.len()).ok_or_else(outside)?.copy_from_slice(values);
                Ok(())
            }
            Place::File(file) => positioned::write(file, bytemuck::cast_slice(values), (at * size_of::<T>()) as u64),
        }
    }

    /// Rows from `y` on, whole, as many as fill `rows`.
    ///
    /// # Errors
    /// Those of the scratch file.
    pub fn read_rows(&self, channel: usize, z: usize, y: usize, rows: &mut [T]) -> io::Result<()> {
        self.read_at(self.place_of(channel, z, y, 0), rows)
    }

    /// Writes whole rows from `y` on.
    ///
    /// # Errors
    /// Those of the scratch file: a full disk.
    pub fn write_rows(&mut self, channel: usize, z: usize, y: usize, rows: &[T]) -> io::Result<()> {
        self.write_at(self.place_of(channel, z, y, 0), rows)
    }

    /// Lets `change` change rows `y` in place.
    ///
    /// # Errors
    /// Those of the scratch file.
    pub fn update_rows(
        &mut self,
        channel: usize,
        z: usize,
        y: Range<usize>,
        change: impl FnOnce(ArrayViewMut2<'_, T>),
    ) -> io::Result<()> {
        let width = self.shape[3];
        let (at, length, dim) = (self.place_of(channel, z, y.start, 0), y.len() * width, (y.len(), width));
        let change = |rows: &mut [T]| {
            change(ArrayViewMut2::from_shape(dim, rows).map_err(io::Error::other)?);
            Ok(())
        };
        match &mut self.place {
            Place::Memory { values, .. } => change(values.get_mut(at..at + length).ok_or_else(outside)?),
            Place::File(_) => {
                let mut rows = vec![T::zeroed(); length];
                self.read_at(at, &mut rows)?;
                change(&mut rows)?;
                self.write_at(at, &rows)
            }
        }
    }

    /// The box of `size` voxels from `start` on (z, y, x).
    ///
    /// # Errors
    /// Those of the scratch file.
    pub fn read_box(&self, channel: usize, start: [usize; 3], size: [usize; 3]) -> io::Result<Array3<T>> {
        let mut found = Array3::from_elem(size, T::zeroed());
        let [_, _, _, width] = self.shape;
        let whole_rows = start[2] == 0 && size[2] == width;
        let mut strip = if whole_rows { Vec::new() } else { vec![T::zeroed(); size[1] * width] };
        for (z, mut plane) in found.outer_iter_mut().enumerate() {
            if whole_rows {
                let rows = plane.as_slice_mut().ok_or_else(outside)?;
                self.read_rows(channel, start[0] + z, start[1], rows)?;
                continue;
            }
            match &self.place {
                Place::Memory { .. } => {
                    for (y, mut row) in plane.outer_iter_mut().enumerate() {
                        let at = self.place_of(channel, start[0] + z, start[1] + y, start[2]);
                        self.read_at(at, row.as_slice_mut().ok_or_else(outside)?)?;
                    }
                }
                // One long read is faster than many short ones.
                Place::File(_) => {
                    self.read_rows(channel, start[0] + z, start[1], &mut strip)?;
                    let rows = ArrayView2::from_shape((size[1], width), &strip).map_err(io::Error::other)?;
                    plane.assign(&rows.slice(s![.., start[2]..start[2] + size[2]]));
                }
            }
        }
        Ok(found)
    }

    /// Writes `values` from `start` (z, y, x) on.
    ///
    /// # Errors
    /// Those of the scratch file.
    pub fn write_box(&mut self, channel: usize, start: [usize; 3], values: ArrayView3<'_, T>) -> io::Result<()> {
        let values = values.as_standard_layout();
        let whole_rows = start[2] == 0 && values.dim().2 == self.shape[3];
        for (z, plane) in values.outer_iter().enumerate() {
            if whole_rows {
                self.write_rows(channel, start[0] + z, start[1], plane.as_slice().ok_or_else(outside)?)?;
                continue;
            }
            for (y, row) in plane.outer_iter().enumerate() {
                let at = self.place_of(channel, start[0] + z, start[1] + y, start[2]);
                self.write_at(at, row.as_slice().ok_or_else(outside)?)?;
            }
        }
        Ok(())
    }
}

/// A place beyond the volume, or an array that is not one piece: never asked for, and no reason to panic.
fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a box that is not part of the volume")
}

/// Reads and writes at a position.
mod positioned {
    use std::fs::File;
    use std::io;

    #[cfg(unix)]
    pub fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
    }

    #[cfg(unix)]
    pub fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
    }

    #[cfg(not(unix))]
    pub fn read(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(bytes)
    }

    #[cfg(not(unix))]
    pub fn write(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same numbers come back from memory and from a file, however they were put there.
    #[test]
    fn a_file_is_as_good_as_memory() {
        let folder = tempfile::tempdir().unwrap();
        let [memory, file] = [None, Some(0)].map(|budget| Storage::new(budget, folder.path()));
        let made = |storage: &Storage| {
            let mut planes = storage.zeros::<f32>("test", [2, 3, 4, 5], 0).unwrap();
            let part = Array3::from_shape_fn((2, 3, 2), |(z, y, x)| (1 + z * 6 + y * 2 + x) as f32);
            planes.write_box(1, [1, 1, 2], part.view()).unwrap();
            planes.write_rows(0, 2, 1, &[7.0; 10]).unwrap();
            planes.update_rows(0, 2, 2..4, |mut rows| rows.mapv_inplace(|value| value + 1.0)).unwrap();
            assert_eq!(planes.read_box(1, [1, 1, 2], [2, 3, 2]).unwrap(), part);
            (planes.is_in_memory(), [0, 1].map(|channel| planes.read_box(channel, [0; 3], [3, 4, 5]).unwrap()))
        };
        let ((true, expected), (false, found)) = (made(&memory), made(&file)) else { panic!("not where it should be") };
        assert_eq!(found, expected);
        assert_eq!(expected[0].sum(), 7.0 * 10.0 + 10.0);
        assert_eq!((memory.held(), file.held()), (0, 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a scratch file has a name");
    }

    #[test]
    fn what_comes_later_keeps_its_room() {
        let storage = Storage::new(Some(1000), Path::new(""));
        let first = storage.zeros::<u8>("first", [1, 1, 10, 60], 400).unwrap();
        assert!(first.is_in_memory() && storage.held() == 600);
        assert!(!storage.zeros::<u8>("second", [1, 1, 10, 30], 101).unwrap().is_in_memory());
        drop(first);
        assert!(storage.zeros::<u8>("second", [1, 1, 10, 30], 101).unwrap().is_in_memory());
        assert!(storage.zeros::<f32>("endless", [usize::MAX; 4], 0).is_err());
    }
}
