//! The bytes of a volume file, plain or gzip, read in bounded pieces.
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use flate2::bufread::GzDecoder;

use super::error::VolumeError;

/// Deflate cannot pack more than 258 bytes into 2 bits, which is 1032 to 1: a stream that claims more is false.
const DEFLATE_RATIO: u64 = 1032;
/// What follows the voxels is read no further than this to reach the check sum of a gzip member.
const TAIL: u64 = 64 << 20;
const PIECE: usize = 64 << 10;

/// An open volume file.
pub(super) struct Source {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    /// Bytes on disk.
    length: u64,
    gzip: bool,
    /// Bytes handed out so far, after decompression.
    taken: u64,
}

impl Source {
    /// Opens a regular file; gzip is told by content, not by name.
    pub(super) fn open(path: &Path) -> Result<Self, VolumeError> {
        refuse_by_name(path)?;
        let io = |source| VolumeError::io(path, source);
        let metadata = fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
            return Err(VolumeError::invalid(
                path,
                "file",
                format!("it is {what}"),
                "name a .nii or .nii.gz file, or one of a pair of .hdr and .img",
            ));
        }
        let mut file = BufReader::with_capacity(PIECE, File::open(path).map_err(io)?);
        let gzip = is_gzip(file.fill_buf().map_err(io)?);
        let reader: Box<dyn Read + Send> = if gzip {
            Box::new(BufReader::with_capacity(PIECE, Members { decoder: Some(GzDecoder::new(file)) }))
        } else {
            Box::new(file)
        };
        Ok(Self { path: path.to_path_buf(), reader, length: metadata.len(), gzip, taken: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Refuses content of `bytes` bytes, which `field` asks for, that the file cannot hold.
    pub(super) fn check_holds(&self, field: &str, bytes: u64) -> Result<(), VolumeError> {
        let most = if self.gzip { self.length.saturating_mul(DEFLATE_RATIO) } else { self.length };
        if bytes <= most {
            return Ok(());
        }
        let problem = if self.gzip {
            format!("the header asks for {bytes} bytes, {} compressed bytes cannot hold more than {most}", self.length)
        } else {
            format!("the header asks for {bytes} bytes, the file holds {most}")
        };
        Err(VolumeError::invalid(&self.path, field, problem, TAKE_AGAIN))
    }

    /// Fills `buffer`, or as much of it as there is; returns how much.
    pub(super) fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, VolumeError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(error, filled as u64)),
            }
        }
        self.taken += filled as u64;
        Ok(filled)
    }

    /// Fills `buffer`, which is part of the voxel data.
    pub(super) fn read_voxels(&mut self, buffer: &mut [u8]) -> Result<(), VolumeError> {
        if self.read_up_to(buffer)? == buffer.len() {
            return Ok(());
        }
        let problem = format!("the file ends after {} bytes, before the last voxel", self.taken);
        Err(VolumeError::invalid(&self.path, "voxel data", problem, TAKE_AGAIN))
    }

    /// Passes over everything before the absolute position `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<(), VolumeError> {
        let mut piece = vec![0; PIECE];
        while self.taken < offset {
            let step = usize::try_from(offset - self.taken).unwrap_or(PIECE).min(PIECE);
            self.read_voxels(&mut piece[..step])?;
        }
        Ok(())
    }

    /// Lets a thread unpack what is read next, where `bytes` of voxels are to come and they are packed: it is the longer half
    /// of reading.
    pub(super) fn unpack_ahead(&mut self, bytes: u64) {
        if self.gzip && bytes >= AHEAD_FROM {
            let reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
            self.reader = ahead(reader);
        }
    }

    /// Reads on to the end of a gzip stream, so that its check sum is compared.
    pub(super) fn finish(mut self) -> Result<(), VolumeError> {
        if !self.gzip {
            return Ok(());
        }
        let end = self.taken.saturating_add(TAIL);
        let mut piece = vec![0; PIECE];
        while self.taken < end && self.read_up_to(&mut piece)? > 0 {}
        Ok(())
    }

    fn failure(&self, error: io::Error, unread: u64) -> VolumeError {
        let damaged =
            matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput);
        if !(self.gzip && damaged) {
            return VolumeError::io(&self.path, error);
        }
        let after = self.taken + unread;
        let problem = if error.kind() == ErrorKind::UnexpectedEof {
            format!("it ends early, after {after} decompressed bytes")
        } else {
            format!("it is damaged after {after} decompressed bytes ({error})")
        };
        VolumeError::invalid(&self.path, "gzip stream", problem, TAKE_AGAIN)
    }
}

pub(super) const TAKE_AGAIN: &str = "the file is cut short or damaged: take it from its source again";

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// Volumes of fewer bytes are read before a thread is worth it.
const AHEAD_FROM: u64 = if cfg!(test) { 1 << 10 } else { 4 << 20 };
/// Pieces that wait to be read, and the bytes of each.
const AHEAD: (usize, usize) = (4, 256 << 10);

/// What `reader` gives, read by a thread of its own; `reader` itself where there can be no thread.
fn ahead(reader: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    // Where no thread starts, the reader must not be gone with its work.
    let place = Arc::new(Mutex::new(Some(reader)));
    let taken = place.clone();
    let (sender, receiver) = mpsc::sync_channel(AHEAD.0);
    let started = thread::Builder::new().name("unpack".into()).spawn(move || {
        let Some(mut reader) = taken.lock().ok().and_then(|mut place| place.take()) else { return };
        loop {
            let mut piece = vec![0; AHEAD.1];
            let (count, error) = fill(&mut *reader, &mut piece);
            piece.truncate(count);
            let last = error.is_some() || count == 0;
            // Nobody waits for more once the volume is read, or was given up.
            if sender.send((piece, error)).is_err() || last {
                return;
            }
        }
    });
    match started {
        Ok(_) => Box::new(Ahead { receiver, piece: Vec::new(), at: 0, error: None }),
        Err(_) => place.lock().ok().and_then(|mut place| place.take()).unwrap_or_else(|| Box::new(io::empty())),
    }
}

/// Fills `buffer`, or as much of it as there is before the end or an error.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

/// The other end of [`ahead`].
struct Ahead {
    receiver: mpsc::Receiver<(Vec<u8>, Option<io::Error>)>,
    piece: Vec<u8>,
    at: usize,
    /// What came after the last byte of `piece`.
    error: Option<io::Error>,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            // The thread has ended: so have the bytes.
            let Ok((piece, error)) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at, self.error) = (piece, 0, error);
            if self.piece.is_empty() && self.error.is_none() {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Gzip members one after the other; what follows the last one (padding of tapes and block devices) is ignored,
/// as gzip itself does.
struct Members {
    decoder: Option<GzDecoder<BufReader<File>>>,
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(finished) = self.decoder.take() else { break };
            let mut file = finished.into_inner();
            if is_gzip(file.fill_buf()?) {
                self.decoder = Some(GzDecoder::new(file));
            }
        }
        Ok(0)
    }
}

/// Refuses formats that are not NIfTI by their ending, each with the way to convert it.
fn refuse_by_name(path: &Path) -> Result<(), VolumeError> {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let bare = name.strip_suffix(".gz").unwrap_or(&name);
    let (what, cure) = match bare.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "dcm" | "dicom" | "ima" => ("DICOM", DICOM_CURE),
        "nrrd" | "nhdr" => ("NRRD", SIMPLE_ITK),
        "mha" | "mhd" => ("MetaImage", SIMPLE_ITK),
        "mgz" | "mgh" => ("FreeSurfer MGH", MGH_CURE),
        _ => return Ok(()),
    };
    Err(VolumeError::invalid(path, "format", format!("{what} is not read, only NIfTI"), cure))
}

pub(super) const DICOM_CURE: &str = "convert the series with `dcm2niix -z y FOLDER`";
pub(super) const SIMPLE_ITK: &str =
    "convert it to .nii.gz, for example with 3D Slicer or SimpleITK's `WriteImage(ReadImage(IN), \"OUT.nii.gz\")`";
pub(super) const MGH_CURE: &str = "convert it with `mri_convert IN.mgz OUT.nii.gz`";
pub(super) const PAIR_CURE: &str = "let its name end in .hdr and put the .img of the same name beside it, or join the two into one file with `fslchfiletype NIFTI_GZ IN`";
