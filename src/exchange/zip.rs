//! The entries of a ZIP archive that are stored as they are, which is how PyTorch writes them: nothing is unpacked.
//! (PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.)
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;

/// Bytes of the list of entries; PyTorch's takes 100 or so for each tensor.
const MAX_DIRECTORY: u64 = 16 << 20;
/// Bytes at the end of a file within which the list's place is told: 22, and a comment.
const TAIL: u64 = 22 + 65_535;

/// An archive and where its entries are.
pub struct Archive {
    file: File,
    length: u64,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Place of the header in front of its bytes.
    header: u64,
    /// Bytes in the archive, which are all there are where nothing is packed.
    size: u64,
    crc: u32,
    /// Why it is not read, where it is not.
    refused: Option<&'static str>,
}

impl Archive {
    /// Reads the list of entries.
    ///
    /// # Errors
    /// What is no archive or none in one piece; entries that together are larger than the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let (start, size) = directory(&mut file, length)?;
        if size > MAX_DIRECTORY || start.checked_add(size).is_none_or(|end| end > length) {
            return Err(format!("its list of entries would have {size} bytes, more than there can be"));
        }
        let bytes = read(&mut file, start, size)?;
        let entries = entries(&bytes)?;
        let total = entries.values().try_fold(0u64, |sum, entry| sum.checked_add(entry.size));
        if total.is_none_or(|total| total > length) {
            return Err("its entries together are larger than the file".into());
        }
        Ok(Self { file, length, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Bytes of an entry.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// The content of an entry of at most `most` bytes, verified.
    ///
    /// # Errors
    /// An entry that is not there, is larger, packed, encrypted or damaged.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, String> {
        let entry = *self.entries.get(name).ok_or_else(|| format!("its entry {name} is missing"))?;
        if let Some(why) = entry.refused {
            return Err(format!("its entry {name} is {why}"));
        }
        if entry.size > most {
            return Err(format!("its entry {name} has {} bytes, read are up to {most}", entry.size));
        }
        let header = read(&mut self.file, entry.header, 30)?;
        let lengths = number(&header, 26, 2)?.saturating_add(number(&header, 28, 2)?);
        let start = entry.header.checked_add(30 + lengths).filter(|_| header.starts_with(b"PK\x03\x04"));
        let start = start.filter(|start| start.checked_add(entry.size).is_some_and(|end| end <= self.length));
        let start = start.ok_or_else(|| format!("its entry {name} is not where the list says"))?;
        let bytes = read(&mut self.file, start, entry.size)?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        match crc.sum() == entry.crc {
            true => Ok(bytes),
            false => Err(format!("its entry {name} is not what was written (CRC-32 differs)")),
        }
    }
}

/// `size` bytes, which the caller has held against the length of the file.
fn read(file: &mut File, start: u64, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    let read = file.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match read as u64 == size {
        true => Ok(bytes),
        false => Err("it is cut short".into()),
    }
}

/// A number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64, String> {
    let part = at.checked_add(width).and_then(|end| bytes.get(at..end)).ok_or("its list of entries is cut short")?;
    Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Place and bytes of the list of entries.
fn directory(file: &mut File, length: u64) -> Result<(u64, u64), String> {
    let tail_start = length.saturating_sub(TAIL);
    let tail = read(file, tail_start, length - tail_start)?;
    let fits = |at: &usize| {
        tail[*at..].starts_with(b"PK\x05\x06")
            && number(&tail, at + 20, 2).is_ok_and(|n| at + 22 + n as usize == tail.len())
    };
    let at = (0..tail.len().saturating_sub(21)).rev().find(fits).ok_or("it is no whole ZIP archive")?;
    let (size, start) = (number(&tail, at + 12, 4)?, number(&tail, at + 16, 4)?);
    if size != u64::from(u32::MAX) && start != u64::from(u32::MAX) {
        return Ok((start, size));
    }
    // Of more than 4 GiB: the numbers stand further in front.
    let broken = "the end of its list of entries is damaged";
    let locator = at.checked_sub(20).filter(|at| tail[*at..].starts_with(b"PK\x06\x07")).ok_or(broken)?;
    let record = number(&tail, locator + 8, 8)?;
    if record.checked_add(56).is_none_or(|end| end > length) {
        return Err(broken.into());
    }
    let record = read(file, record, 56)?;
    match record.starts_with(b"PK\x06\x06") {
        true => Ok((number(&record, 48, 8)?, number(&record, 40, 8)?)),
        false => Err(broken.into()),
    }
}

fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    while bytes.get(at..).is_some_and(|rest| rest.starts_with(b"PK\x01\x02")) {
        let field = |place: usize, width: usize| number(bytes, at + place, width);
        let (flags, method, crc) = (field(8, 2)?, field(10, 2)?, field(16, 4)? as u32);
        let (name, extra, comment) = (field(28, 2)? as usize, field(30, 2)? as usize, field(32, 2)? as usize);
        let after_name = at + 46 + name;
        let cut = "its list of entries is cut short";
        let text = bytes.get(at + 46..after_name).ok_or(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| "the name of an entry is no UTF-8 text")?;
        let extra_field = bytes.get(after_name..after_name + extra).ok_or(cut)?;
        let mut wide = Wide::of(extra_field);
        let size = wide.or(field(24, 4)?)?;
        let packed = wide.or(field(20, 4)?)?;
        let header = wide.or(field(42, 4)?)?;
        let refused = match (flags & 1, method) {
            (1, _) => Some("encrypted"),
            (_, 0) if packed == size => None,
            (_, 0) => Some("of two sizes"),
            _ => Some("packed, which torch.save does not do"),
        };
        if found.insert(text.to_owned(), Entry { header, size: packed, crc, refused }).is_some() {
            return Err("two of its entries have one name".into());
        }
        at = after_name + extra + comment;
    }
    match at == bytes.len() {
        true => Ok(found),
        false => Err("its list of entries is damaged".into()),
    }
}

/// Numbers of 8 bytes that stand for those that 4 bytes do not hold, in their order.
struct Wide<'a>(&'a [u8]);

impl<'a> Wide<'a> {
    fn of(extra: &'a [u8]) -> Self {
        let mut rest = extra;
        while let (Ok(kind), Ok(length)) = (number(rest, 0, 2), number(rest, 2, 2)) {
            let end = 4 + length as usize;
            let Some(part) = rest.get(4..end) else { break };
            if kind == 1 {
                return Self(part);
            }
            rest = &rest[end..];
        }
        Self(&[])
    }

    fn or(&mut self, narrow: u64) -> Result<u64, String> {
        if narrow != u64::from(u32::MAX) {
            return Ok(narrow);
        }
        let wide = number(self.0, 0, 8)?;
        self.0 = &self.0[8..];
        Ok(wide)
    }
}
