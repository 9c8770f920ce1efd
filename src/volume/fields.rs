//! The header fields that matter, as both versions of the format state them.
use std::path::Path;

use nifti::{Endianness, NiftiHeader};

use super::error::VolumeError;
use super::source::{DICOM_CURE, MGH_CURE, PAIR_CURE, SIMPLE_ITK, Source, TAKE_AGAIN};

/// Which layout a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    pub(super) fn header_bytes(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }
}

/// Header fields under the names of the standard, wide enough for both versions and not yet checked.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) version: Version,
    pub(super) big_endian: bool,
    pub(super) dim: [i64; 8],
    pub(super) datatype: i16,
    pub(super) bitpix: i16,
    pub(super) vox_offset: f64,
    pub(super) scl_slope: f64,
    pub(super) scl_inter: f64,
    pub(super) placement: Placement,
}

/// The fields that say where the grid stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub(super) pixdim: [f64; 8],
    pub(super) xyzt_units: i32,
    pub(super) qform_code: i32,
    pub(super) sform_code: i32,
    /// b, c, d.
    pub(super) quatern: [f64; 3],
    pub(super) qoffset: [f64; 3],
    pub(super) srow: [[f64; 4]; 3],
}

impl Fields {
    /// Reads the header at the start of `source`; `pair` where the voxels are in a file of their own.
    pub(super) fn read(source: &mut Source, pair: bool) -> Result<Self, VolumeError> {
        let mut bytes = [0; 540];
        let first = source.read_up_to(&mut bytes[..348])?;
        refuse_by_content(source.path(), &bytes[..first])?;
        let size = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (version, big_endian) = match (size, size.swap_bytes()) {
            _ if first < 4 => (Version::One, false),
            (348, _) => (Version::One, false),
            (_, 348) => (Version::One, true),
            (540, _) => (Version::Two, false),
            (_, 540) => (Version::Two, true),
            _ => {
                let problem = format!("{size}, where NIfTI-1 has 348 and NIfTI-2 has 540");
                return Err(VolumeError::invalid(
                    source.path(),
                    "sizeof_hdr",
                    problem,
                    "this is not a NIfTI file: convert it to .nii or .nii.gz",
                ));
            }
        };
        let mut have = first;
        if version == Version::Two && first == 348 {
            have += source.read_up_to(&mut bytes[348..])?;
        }
        let needed = version.header_bytes();
        if have < needed {
            let problem = format!("the file ends after {have} bytes, the header alone has {needed}");
            return Err(VolumeError::invalid(source.path(), "header", problem, TAKE_AGAIN));
        }
        match version {
            Version::One => Self::one(source.path(), &bytes[..348], big_endian, pair),
            Version::Two => Self::two(source.path(), &bytes, big_endian, pair),
        }
    }

    fn one(path: &Path, bytes: &[u8], big_endian: bool, pair: bool) -> Result<Self, VolumeError> {
        check_magic(path, &bytes[344..348], [b"n+1\0", b"ni1\0"], pair)?;
        // The parser decides the byte order by dim[0]; with dim[0] from 1 to 7 in our order it comes to the same one.
        let rank = if big_endian { [bytes[40], bytes[41]] } else { [bytes[41], bytes[40]] };
        check_rank(path, i64::from(i16::from_be_bytes(rank)))?;
        let header = NiftiHeader::from_reader(bytes)
            .map_err(|error| VolumeError::invalid(path, "header", error.to_string(), TAKE_AGAIN))?;
        let wide = |values: &[f32; 4]| values.map(f64::from);
        Ok(Self {
            version: Version::One,
            big_endian: header.endianness == Endianness::Big,
            // The standard's dims are signed; the parser reads the same bits without sign.
            dim: header.dim.map(|size| i64::from(size.cast_signed())),
            datatype: header.datatype,
            bitpix: header.bitpix,
            vox_offset: f64::from(header.vox_offset),
            scl_slope: f64::from(header.scl_slope),
            scl_inter: f64::from(header.scl_inter),
            placement: Placement {
                pixdim: header.pixdim.map(f64::from),
                xyzt_units: i32::from(header.xyzt_units),
                qform_code: i32::from(header.qform_code),
                sform_code: i32::from(header.sform_code),
                quatern: [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from),
                qoffset: [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from),
                srow: [wide(&header.srow_x), wide(&header.srow_y), wide(&header.srow_z)],
            },
        })
    }

    /// NIfTI-2, by the byte positions of the standard's `nifti_2_header`.
    fn two(path: &Path, bytes: &[u8; 540], big_endian: bool, pair: bool) -> Result<Self, VolumeError> {
        check_magic(path, &bytes[4..8], [b"n+2\0", b"ni2\0"], pair)?;
        if bytes[8..12] != *b"\r\n\x1a\n" {
            let problem = "the four bytes after it are not those of the standard";
            return Err(VolumeError::invalid(
                path,
                "magic",
                problem,
                "the file was changed in transfer as if it were text: copy it again as binary",
            ));
        }
        let view = Bytes { bytes, big_endian };
        check_rank(path, view.i64(16))?;
        Ok(Self {
            version: Version::Two,
            big_endian,
            dim: std::array::from_fn(|index| view.i64(16 + 8 * index)),
            datatype: view.i16(12),
            bitpix: view.i16(14),
            vox_offset: view.i64(168) as f64,
            scl_slope: view.f64(176),
            scl_inter: view.f64(184),
            placement: Placement {
                pixdim: std::array::from_fn(|index| view.f64(104 + 8 * index)),
                xyzt_units: view.i32(500),
                qform_code: view.i32(344),
                sform_code: view.i32(348),
                quatern: std::array::from_fn(|index| view.f64(352 + 8 * index)),
                qoffset: std::array::from_fn(|index| view.f64(376 + 8 * index)),
                srow: std::array::from_fn(|row| std::array::from_fn(|column| view.f64(400 + 32 * row + 8 * column))),
            },
        })
    }
}

/// Numbers at byte positions of a NIfTI-2 header.
struct Bytes<'a> {
    bytes: &'a [u8; 540],
    big_endian: bool,
}

macro_rules! number {
    ($($kind:ident),*) => {$(
        fn $kind(&self, at: usize) -> $kind {
            let mut raw = [0; size_of::<$kind>()];
            raw.copy_from_slice(&self.bytes[at..at + size_of::<$kind>()]);
            if self.big_endian { $kind::from_be_bytes(raw) } else { $kind::from_le_bytes(raw) }
        }
    )*};
}

impl Bytes<'_> {
    number!(i16, i32, i64, f64);
}

/// `known` are the magic of one file and that of a pair.
fn check_magic(path: &Path, magic: &[u8], known: [&[u8; 4]; 2], pair: bool) -> Result<(), VolumeError> {
    let [wanted, other] = if pair { [known[1], known[0]] } else { known };
    if magic == wanted {
        return Ok(());
    }
    let (problem, cure) = match (magic == other, pair) {
        (true, false) => ("it says that the voxels are in a separate .img file".to_string(), PAIR_CURE),
        (true, true) => (
            "it says that the voxels are in the same file, whose ending says that they are not".to_string(),
            "let the file's name end in .nii, or in .nii.gz where it is packed",
        ),
        (false, _) => {
            let shown = magic.escape_ascii();
            let cure = if pair { ANALYZE_CURE } else { DAMAGED_CURE };
            let what =
                if pair { ", as an ANALYZE 7.5 header has it, which does not say what is left and right" } else { "" };
            (format!("\"{shown}\" instead of \"{}\"{what}", wanted.escape_ascii()), cure)
        }
    };
    Err(VolumeError::invalid(path, "magic", problem, cure))
}

const DAMAGED_CURE: &str =
    "this is an ANALYZE 7.5 or a damaged file: convert it to .nii.gz or take it from its source again";
const ANALYZE_CURE: &str = "take the volume from its source again as NIfTI, or convert it with nibabel's `save(load(\"IN.img\"), \"OUT.nii.gz\")` and compare left and right with the source";

fn check_rank(path: &Path, rank: i64) -> Result<(), VolumeError> {
    if (2..=7).contains(&rank) {
        return Ok(());
    }
    let problem = format!("{rank} dimensions, expected 3");
    Err(VolumeError::invalid(path, "dim[0]", problem, "save the volume as a 3D NIfTI file"))
}

/// Names the well-known formats that come without their ending.
fn refuse_by_content(path: &Path, start: &[u8]) -> Result<(), VolumeError> {
    let (what, cure) = if start.get(128..132) == Some(b"DICM") {
        ("DICOM", DICOM_CURE)
    } else if start.starts_with(b"NRRD") {
        ("NRRD", SIMPLE_ITK)
    } else if start.starts_with(b"ObjectType") {
        ("MetaImage", SIMPLE_ITK)
    } else if start.starts_with(&[0, 0, 0, 1]) {
        ("FreeSurfer MGH", MGH_CURE)
    } else {
        return Ok(());
    };
    Err(VolumeError::invalid(path, "format", format!("the content is {what}, only NIfTI is read"), cure))
}
