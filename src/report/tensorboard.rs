//! Event files that TensorBoard reads: scalars over steps, appended one record at a time.
//!
//! A record is its length (u64), a masked CRC of the length, the bytes of a protocol buffer `Event`, and a masked CRC of
//! these, all little-endian (TensorFlow's `record_writer.h`, `event.proto`, `summary.proto`). The CRC is CRC-32C. A record
//! goes to the file in one write, so that a process that dies leaves at most the last one cut short, which readers pass
//! over. The time of an event is the clock's: it is no result.
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::files::{make_private, private_options};

/// Bytes of a tag, beyond which a name is cut.
const MAX_TAG: usize = 200;

/// A number under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// What TensorBoard shows it under, as in `dice/1 liver`.
    pub tag: String,
    /// Written in f32.
    pub value: f64,
}

impl Scalar {
    /// `tag` is cut and cleaned of control characters.
    pub fn new(tag: &str, value: f64) -> Self {
        Self { tag: crate::shown::line(&crate::shown::short(tag, MAX_TAG)), value }
    }
}

/// A file of events that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// A new file in `folder`, which is made for its owner alone, for the steps after `step`. What earlier files of the
    /// folder say of later steps is void: the run was resumed before them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        make_private(folder)?;
        let seconds = now() as u64;
        // Readers take files in the order of their names, and look for this one; names of machines and people stay out.
        let file = (0..1000u32)
            .map(|number| folder.join(format!("events.out.tfevents.{seconds:010}.voxfit.{number:03}")))
            .find_map(|path| match private_options().create_new(true).append(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                other => Some(other),
            })
            .unwrap_or_else(|| Err(io::Error::other("a thousand event files of one second are there")))?;
        let mut events = Self { file };
        let mut version = Vec::new();
        bytes_field(&mut version, 3, b"brain.Event:2");
        events.write(0, &version)?;
        // A start of a session: readers drop what they have of later steps.
        let mut start = Vec::new();
        bytes_field(&mut start, 7, &[0x08, 1]);
        events.write(step.saturating_add(1), &start)?;
        Ok(events)
    }

    /// Adds scalars of a step.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&mut self, step: u64, scalars: &[Scalar]) -> io::Result<()> {
        if scalars.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for Scalar { tag, value } in scalars {
            let mut one = Vec::new();
            bytes_field(&mut one, 1, tag.as_bytes());
            // simple_value, a float.
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &one);
        }
        let mut event = Vec::new();
        bytes_field(&mut event, 5, &summary);
        self.write(step, &event)
    }

    fn write(&mut self, step: u64, what: &[u8]) -> io::Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend(now().to_le_bytes());
        event.push(2 << 3);
        varint(&mut event, step);
        event.extend(what);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked_crc(&event).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A field of bytes, of text or of another message.
fn bytes_field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// TensorFlow's mask (`crc32c.h`): a CRC over bytes that hold CRCs would be weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4), bit by bit: records are short.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 3720, appendix B.4.
    #[test]
    fn the_crc_is_that_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!([crc32c(&[0; 32]), crc32c(&[0xff; 32])], [0x8a91_36aa, 0x62a8_ab43]);
        assert_eq!([crc32c(&ascending), crc32c(&descending)], [0x46dd_794e, 0x113f_db5c]);
    }
}
