//! Connected parts of a label map, from its lowest row up.
//!
//! Two voxels are of one part where they have the same key and touch at a face, an edge or a corner (26 neighbours, which
//! is what nnU-Net's postprocessing and `scipy.ndimage.label` with a full structure count). A row is taken as its runs of
//! one key. Only the runs of two planes are held, and one entry for each run that touched nothing before it; nothing is
//! as large as the volume, unless it is noise, and then entries lie where a [`Storage`] has room for them.
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use ndarray::{Array3, ArrayView3, s};

use super::planes::{Planes, Storage};

/// A label map that is read row by row.
pub trait Rows {
    /// Voxels z, y, x.
    fn size(&self) -> [usize; 3];

    /// Row `y` of plane `z`, as many voxels as there are along x.
    ///
    /// # Errors
    /// Those of whatever holds the voxels.
    fn row(&self, z: usize, y: usize, row: &mut [u16]) -> io::Result<()>;
}

/// A label map of which parts can be taken away.
pub trait RowsMut: Rows {
    /// Makes voxels of a row background.
    ///
    /// # Errors
    /// Those of whatever holds the voxels.
    fn clear(&mut self, z: usize, y: usize, x: &[Range<usize>]) -> io::Result<()>;
}

impl Rows for ArrayView3<'_, u16> {
    fn size(&self) -> [usize; 3] {
        self.dim().into()
    }

    fn row(&self, z: usize, y: usize, row: &mut [u16]) -> io::Result<()> {
        row.iter_mut().zip(self.slice(s![z, y, ..])).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

impl Rows for Array3<u16> {
    fn size(&self) -> [usize; 3] {
        self.dim().into()
    }

    fn row(&self, z: usize, y: usize, row: &mut [u16]) -> io::Result<()> {
        self.view().row(z, y, row)
    }
}

impl RowsMut for Array3<u16> {
    fn clear(&mut self, z: usize, y: usize, x: &[Range<usize>]) -> io::Result<()> {
        x.iter().for_each(|x| self.slice_mut(s![z, y, x.clone()]).fill(0));
        Ok(())
    }
}

impl Rows for Planes<u16> {
    fn size(&self) -> [usize; 3] {
        Planes::size(self)
    }

    fn row(&self, z: usize, y: usize, row: &mut [u16]) -> io::Result<()> {
        self.read_rows(0, z, y, row)
    }
}

impl RowsMut for Planes<u16> {
    fn clear(&mut self, z: usize, y: usize, x: &[Range<usize>]) -> io::Result<()> {
        self.update_rows(0, z, y..y + 1, |mut row| {
            x.iter().for_each(|x| row.slice_mut(s![0, x.clone()]).fill(0));
        })
    }
}

/// Voxels of one key that follow each other along x.
#[derive(Clone, Debug)]
pub struct Run {
    first: u32,
    /// The last, not the one behind it.
    last: u32,
    /// Not 0.
    pub key: u16,
    /// Entry of the table.
    part: u64,
}

impl Run {
    /// Where in the row it lies.
    pub fn x(&self) -> Range<usize> {
        self.first as usize..self.last as usize + 1
    }
}

/// The most bytes that runs hold, of a volume of `size` voxels z, y, x: two planes where every voxel is a run.
pub fn run_bytes([_, height, width]: [usize; 3]) -> u64 {
    (height as u64).saturating_mul(width as u64).saturating_mul(2 * size_of::<Run>() as u64)
}

/// What is known of the parts of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartsOfKey {
    /// Parts that are not connected with each other.
    pub count: u64,
    /// Voxels of the largest part.
    pub largest: u64,
}

/// The parts of a label map.
#[derive(Debug)]
pub struct Parts {
    table: Table,
    keys: BTreeMap<u16, PartsOfKey>,
}

impl Parts {
    /// Finds the parts of `map`. A voxel's key is made of its label by `key`; those of key 0 are of no part.
    ///
    /// # Errors
    /// Those of the map and of the storage.
    pub fn find<R: Rows>(map: &mut R, key: impl Fn(u16) -> u16, storage: &Storage) -> io::Result<Self> {
        let mut table = Table::new(storage.clone());
        let place = |run: &Run, touching: &[u64]| {
            let length = u64::from(run.last - run.first) + 1;
            let Some((&first, others)) = touching.split_first() else { return table.add(run.key, length) };
            let mut root = table.root(first)?;
            for &other in others {
                root = table.join(root, other)?;
            }
            table.grow(root, length)?;
            Ok(root)
        };
        sweep(map, key, place, |_, _, _, _| Ok(()))?;
        let mut keys = BTreeMap::<u16, PartsOfKey>::new();
        for part in 0..table.count {
            if let Some((key, voxels)) = table.whole(part)? {
                let of_key = keys.entry(key).or_default();
                of_key.count += 1;
                of_key.largest = of_key.largest.max(voxels);
            }
        }
        Ok(Self { table, keys })
    }

    /// Parts of a key; none where no voxel has it.
    pub fn of(&self, key: u16) -> PartsOfKey {
        self.keys.get(&key).copied().unwrap_or_default()
    }

    /// Goes through the same map with the same keys again: `each` is handed every row's runs, and of each whether it is of
    /// a part than which none of its key is larger. Equals are all kept, as by nnU-Net, so that it does not matter from
    /// which side one counts. What `each` does to rows that it was handed changes nothing of what follows.
    ///
    /// # Errors
    /// Those of the map, of the storage and of `each`.
    pub fn visit<R: Rows>(
        &mut self,
        map: &mut R,
        key: impl Fn(u16) -> u16,
        mut each: impl FnMut(&mut R, usize, usize, &[(Run, bool)]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut next = 0;
        let place = |_: &Run, touching: &[u64]| {
            // Entries are made in the same order as they were; which of those that it touches names the part is all one.
            let part = touching.first().copied().unwrap_or(next);
            next += u64::from(touching.is_empty());
            Ok(part)
        };
        let (table, keys) = (&mut self.table, &self.keys);
        let mut judged = Vec::new();
        sweep(map, key, place, |map, z, y, runs| {
            judged.clear();
            for run in runs {
                let root = table.root(run.part)?;
                let voxels = table.whole(root)?.map_or(0, |(_, voxels)| voxels);
                let largest = keys.get(&run.key).is_some_and(|of_key| of_key.largest == voxels);
                judged.push((run.clone(), largest));
            }
            each(map, z, y, &judged)
        })
    }
}

/// Makes background of every part of `map` that is smaller than the largest of its key.
///
/// # Errors
/// Those of the map and of the storage.
pub fn keep_largest<R: RowsMut>(map: &mut R, key: impl Fn(u16) -> u16, storage: &Storage) -> io::Result<()> {
    let mut parts = Parts::find(map, &key, storage)?;
    if parts.keys.values().all(|of_key| of_key.count < 2) {
        return Ok(());
    }
    let mut small = Vec::new();
    parts.visit(map, &key, |map, z, y, runs| {
        small.clear();
        small.extend(runs.iter().filter(|(_, largest)| !largest).map(|(run, _)| run.x()));
        if small.is_empty() { Ok(()) } else { map.clear(z, y, &small) }
    })
}

/// Hands `place` every run with the parts of the runs before it that it touches (some of them twice), which says what part
/// it is of, and `done` the runs of every row.
fn sweep<R: Rows>(
    map: &mut R,
    key: impl Fn(u16) -> u16,
    mut place: impl FnMut(&Run, &[u64]) -> io::Result<u64>,
    mut done: impl FnMut(&mut R, usize, usize, &[Run]) -> io::Result<()>,
) -> io::Result<()> {
    let [depth, height, width] = map.size();
    u32::try_from(width).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "rows of more than 2^32 voxels"))?;
    let mut row = vec![0u16; width];
    let mut below: Vec<Vec<Run>> = vec![Vec::new(); height];
    let mut plane: Vec<Vec<Run>> = vec![Vec::new(); height];
    let mut touching = Vec::new();
    for z in 0..depth {
        std::mem::swap(&mut below, &mut plane);
        for y in 0..height {
            map.row(z, y, &mut row)?;
            let mut runs = std::mem::take(&mut plane[y]);
            find_runs(&row, &key, &mut runs);
            let beside = [
                (y > 0).then(|| plane[y - 1].as_slice()),
                (y > 0).then(|| below[y - 1].as_slice()),
                Some(below[y].as_slice()),
                below.get(y + 1).map(Vec::as_slice),
            ];
            let mut from = [0; 4];
            for run in &mut runs {
                touching.clear();
                for (beside, from) in beside.iter().zip(&mut from) {
                    let Some(beside) = beside else { continue };
                    while beside.get(*from).is_some_and(|other| other.last + 1 < run.first) {
                        *from += 1;
                    }
                    let near = beside[*from..].iter().take_while(|other| other.first <= run.last + 1);
                    for part in near.filter(|other| other.key == run.key).map(|other| other.part) {
                        if touching.last() != Some(&part) {
                            touching.push(part);
                        }
                    }
                }
                run.part = place(run, &touching)?;
            }
            done(map, z, y, &runs)?;
            plane[y] = runs;
        }
        // What lay below the plane before is of no more use, its room is.
        below.iter_mut().for_each(Vec::clear);
    }
    Ok(())
}

/// The runs of a row in place of what is in `runs`; `part` is still to be said.
fn find_runs(row: &[u16], key: impl Fn(u16) -> u16, runs: &mut Vec<Run>) {
    runs.clear();
    let mut x = 0;
    for same in row.chunk_by(|a, b| a == b) {
        let (first, key) = (x as u32, key(same[0]));
        x += same.len();
        if key == 0 {
            continue;
        }
        let last = x as u32 - 1;
        match runs.last_mut() {
            // Other labels, and the same key.
            Some(before) if before.key == key && before.last + 1 == first => before.last = last,
            _ => runs.push(Run { first, last, key, part: 0 }),
        }
    }
}

/// Entries of the smallest piece of the table.
const PIECE: u64 = 4096;

/// A forest of parts: of each entry the one that it belongs to, itself if it is a whole part, and then the part's key and
/// voxels.
#[derive(Debug)]
struct Table {
    storage: Storage,
    /// Each twice as long as the one before: rows of two numbers, the parent, and voxels with the key in the lowest bits.
    pieces: Vec<Planes<u64>>,
    count: u64,
}

/// Bits that hold a key.
const KEY_BITS: u32 = 16;

impl Table {
    fn new(storage: Storage) -> Self {
        Self { storage, pieces: Vec::new(), count: 0 }
    }

    /// Piece and row of an entry.
    fn place(entry: u64) -> (usize, usize) {
        let piece = (entry / PIECE + 1).ilog2();
        (piece as usize, (entry - PIECE * ((1 << piece) - 1)) as usize)
    }

    fn get(&self, entry: u64) -> io::Result<[u64; 2]> {
        let (piece, row) = Self::place(entry);
        let mut values = [0; 2];
        self.pieces.get(piece).ok_or_else(missing)?.read_rows(0, 0, row, &mut values)?;
        Ok(values)
    }

    fn set(&mut self, entry: u64, values: [u64; 2]) -> io::Result<()> {
        let (piece, row) = Self::place(entry);
        self.pieces.get_mut(piece).ok_or_else(missing)?.write_rows(0, 0, row, &values)
    }

    /// A new part.
    fn add(&mut self, key: u16, voxels: u64) -> io::Result<u64> {
        let entry = self.count;
        let (piece, _) = Self::place(entry);
        if piece == self.pieces.len() {
            let rows = (PIECE << piece) as usize;
            self.pieces.push(self.storage.zeros("parts", [1, 1, rows, 2], 0)?);
        }
        self.count += 1;
        self.set(entry, [entry, voxels << KEY_BITS | u64::from(key)])?;
        Ok(entry)
    }

    fn grow(&mut self, root: u64, voxels: u64) -> io::Result<()> {
        let [parent, size] = self.get(root)?;
        self.set(root, [parent, size + (voxels << KEY_BITS)])
    }

    /// The part that an entry has come to belong to; the way there becomes shorter.
    fn root(&mut self, mut entry: u64) -> io::Result<u64> {
        loop {
            let [parent, size] = self.get(entry)?;
            if parent == entry {
                return Ok(entry);
            }
            let [above, _] = self.get(parent)?;
            if above == parent {
                return Ok(parent);
            }
            self.set(entry, [above, size])?;
            entry = above;
        }
    }

    /// Makes one part of a root and the part of another entry; the older of the two is its root.
    fn join(&mut self, root: u64, other: u64) -> io::Result<u64> {
        let other = self.root(other)?;
        if root == other {
            return Ok(root);
        }
        let (old, new) = (root.min(other), root.max(other));
        let ([_, voxels], [_, more]) = (self.get(old)?, self.get(new)?);
        self.set(old, [old, voxels + (more >> KEY_BITS << KEY_BITS)])?;
        self.set(new, [old, 0])?;
        Ok(old)
    }

    /// Key and voxels of a whole part; `None` of an entry that belongs to another.
    fn whole(&self, entry: u64) -> io::Result<Option<(u16, u64)>> {
        let [parent, size] = self.get(entry)?;
        Ok((parent == entry).then_some((size as u16, size >> KEY_BITS)))
    }
}

/// An entry that was never made: never asked for, and no reason to panic.
fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a part that is not in the table")
}
