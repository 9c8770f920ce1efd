//! Kinds of numbers in files of other programs, read as f32.
use half::{bf16, f16};

/// What a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    F16,
    Bf16,
    F64,
    /// No weights: counters and the like.
    Other,
}

impl Kind {
    /// Bytes of a number; none of those that are not read.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::F64 => Some(8),
            Self::Other => None,
        }
    }

    /// The little-endian number that begins at `at`.
    pub fn at(self, bytes: &[u8], at: usize) -> Option<f32> {
        let bytes = bytes.get(at..at.checked_add(self.width()?)?)?;
        Some(match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (Self::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            (Self::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => return None,
        })
    }

    /// All numbers of a tensor that lies as it is.
    pub fn all(self, bytes: &[u8]) -> Option<Vec<f32>> {
        let width = self.width()?;
        (0..bytes.len() / width).map(|index| self.at(bytes, index * width)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    /// numpy: np.float16(-1.5).tobytes(), np.float32(-1.5).tobytes(), np.float64(-1.5).tobytes(); the upper half of the
    /// f32 is the bf16.
    #[test]
    fn numbers_are_read_as_numpy_writes_them() {
        for (kind, bytes) in [
            (Kind::F16, &b"\x00\xbe"[..]),
            (Kind::Bf16, b"\xc0\xbf"),
            (Kind::F32, b"\x00\x00\xc0\xbf"),
            (Kind::F64, b"\x00\x00\x00\x00\x00\x00\xf8\xbf"),
        ] {
            assert_eq!(kind.all(bytes), Some(vec![-1.5]), "{kind:?}");
            assert_eq!(kind.at(bytes, 1), None);
        }
        assert_eq!(Kind::Other.all(b"\x00"), None);
    }
}
