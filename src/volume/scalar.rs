//! The scalar types a NIfTI file may hold, and their bytes.
use std::path::Path;

use nifti::NiftiType;

use super::error::VolumeError;

/// One real number per voxel, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Scalar {
    /// From the header's `datatype`, refusing by name what is not one real number per voxel.
    pub(super) fn from_code(path: &Path, code: i16) -> Result<Self, VolumeError> {
        let refuse = |what: &str, cure: &str| {
            Err(VolumeError::invalid(path, "datatype", format!("{code} ({what}) cannot be read"), cure))
        };
        const COMPLEX: &str = "save magnitude, phase, real or imaginary part as a float32 volume of its own";
        const COLOUR: &str =
            "convert it to one grey value per voxel, or save each colour channel as a volume of its own";
        const TYPES: [(NiftiType, Scalar); 10] = [
            (NiftiType::Uint8, Scalar::U8),
            (NiftiType::Int8, Scalar::I8),
            (NiftiType::Uint16, Scalar::U16),
            (NiftiType::Int16, Scalar::I16),
            (NiftiType::Uint32, Scalar::U32),
            (NiftiType::Int32, Scalar::I32),
            (NiftiType::Uint64, Scalar::U64),
            (NiftiType::Int64, Scalar::I64),
            (NiftiType::Float32, Scalar::F32),
            (NiftiType::Float64, Scalar::F64),
        ];
        if let Some((_, scalar)) = TYPES.iter().find(|(kind, _)| *kind as i32 == i32::from(code)) {
            return Ok(*scalar);
        }
        match code {
            32 => refuse("complex64", COMPLEX),
            1792 => refuse("complex128", COMPLEX),
            2048 => refuse("complex256", COMPLEX),
            128 => refuse("RGB24", COLOUR),
            2304 => refuse("RGBA32", COLOUR),
            1536 => refuse("float128", "save it as float64 or float32"),
            1 => refuse("binary, one bit per voxel", "save it as uint8"),
            0 => refuse("unknown", "save the volume anew with a scalar type such as int16 or float32"),
            _ => {
                refuse("not a type of the NIfTI standard", "the header is damaged: take the file from its source again")
            }
        }
    }

    pub(super) fn code(self) -> i16 {
        match self {
            Self::U8 => 2,
            Self::I16 => 4,
            Self::I32 => 8,
            Self::F32 => 16,
            Self::F64 => 64,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::U32 => 768,
            Self::I64 => 1024,
            Self::U64 => 1280,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Bytes per voxel.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Hands every stored number to `put`, with its place of `to`. Integers beyond 2^53 are rounded to the nearest f64.
    pub(super) fn each<T>(self, bytes: &[u8], big_endian: bool, to: &mut [T], mut put: impl FnMut(&mut T, f64)) {
        macro_rules! each {
            ($kind:ty) => {{
                let (elements, _) = bytes.as_chunks::<{ size_of::<$kind>() }>();
                if big_endian {
                    to.iter_mut().zip(elements).for_each(|(to, bytes)| put(to, <$kind>::from_be_bytes(*bytes) as f64));
                } else {
                    to.iter_mut().zip(elements).for_each(|(to, bytes)| put(to, <$kind>::from_le_bytes(*bytes) as f64));
                }
            }};
        }
        match self {
            Self::U8 => each!(u8),
            Self::I8 => each!(i8),
            Self::U16 => each!(u16),
            Self::I16 => each!(i16),
            Self::U32 => each!(u32),
            Self::I32 => each!(i32),
            Self::U64 => each!(u64),
            Self::I64 => each!(i64),
            Self::F32 => each!(f32),
            Self::F64 => each!(f64),
        }
    }
}
