//! NIfTI files made byte by byte, right or wrong as a test wants them.
use std::io::Write;
use std::path::PathBuf;

use tempfile::TempDir;

/// A file's header fields under their names in the standard, and its voxels in the file's order.
#[derive(Clone, Debug)]
pub struct Raw {
    pub version: u8,
    pub big_endian: bool,
    pub sizeof_hdr: i32,
    pub magic: [u8; 4],
    pub dim: [i64; 8],
    pub datatype: i16,
    pub bitpix: i16,
    pub pixdim: [f64; 8],
    pub vox_offset: f64,
    pub scl: [f64; 2],
    pub units: i32,
    pub qform_code: i32,
    pub sform_code: i32,
    pub quatern: [f64; 3],
    pub qoffset: [f64; 3],
    pub srow: [[f64; 4]; 3],
    pub values: Vec<f64>,
}

/// datatype and bitpix of every scalar type.
pub const TYPES: [(i16, i16); 10] =
    [(2, 8), (256, 8), (512, 16), (4, 16), (768, 32), (8, 32), (1280, 64), (1024, 64), (16, 32), (64, 64)];

impl Raw {
    /// A volume of 4 x 3 x 2 of values 0 to 23, int16, 1 x 2 x 3 mm, both forms along R, A, S.
    pub fn new() -> Self {
        Self {
            version: 1,
            big_endian: false,
            sizeof_hdr: 348,
            magic: *b"n+1\0",
            dim: [3, 4, 3, 2, 1, 1, 1, 1],
            datatype: 4,
            bitpix: 16,
            pixdim: [1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0],
            vox_offset: 352.0,
            scl: [1.0, 0.0],
            units: 2,
            qform_code: 1,
            sform_code: 1,
            quatern: [0.0; 3],
            qoffset: [10.0, 20.0, 30.0],
            srow: [[1.0, 0.0, 0.0, 10.0], [0.0, 2.0, 0.0, 20.0], [0.0, 0.0, 3.0, 30.0]],
            values: (0..24).map(f64::from).collect(),
        }
    }

    pub fn second_version(mut self) -> Self {
        self.version = 2;
        self.sizeof_hdr = 540;
        self.magic = *b"n+2\0";
        self.vox_offset = 544.0;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = if self.version == 1 { self.header_one() } else { self.header_two() };
        bytes.extend([0; 4]);
        if self.vox_offset.is_finite() && self.vox_offset < 1e4 {
            bytes.resize(bytes.len().max(self.vox_offset as usize), 0xaa);
        }
        for &value in &self.values {
            self.push(&mut bytes, value);
        }
        bytes
    }

    fn push(&self, bytes: &mut Vec<u8>, value: f64) {
        match self.datatype {
            2 => bytes.push(value as u8),
            256 => bytes.push((value as i8).cast_unsigned()),
            512 => self.put(bytes, (value as u16).to_le_bytes()),
            4 => self.put(bytes, (value as i16).to_le_bytes()),
            768 => self.put(bytes, (value as u32).to_le_bytes()),
            8 => self.put(bytes, (value as i32).to_le_bytes()),
            1280 => self.put(bytes, (value as u64).to_le_bytes()),
            1024 => self.put(bytes, (value as i64).to_le_bytes()),
            16 => self.put(bytes, (value as f32).to_le_bytes()),
            _ => self.put(bytes, value.to_le_bytes()),
        }
    }

    fn put<const N: usize>(&self, bytes: &mut Vec<u8>, mut number: [u8; N]) {
        if self.big_endian {
            number.reverse();
        }
        bytes.extend(number);
    }

    fn header_one(&self) -> Vec<u8> {
        let mut b = Vec::new();
        let f = |b: &mut Vec<u8>, values: &[f64]| values.iter().for_each(|v| self.put(b, (*v as f32).to_le_bytes()));
        self.put(&mut b, self.sizeof_hdr.to_le_bytes());
        // data_type, db_name, extents, session_error, regular, dim_info: text that must not be carried over.
        b.extend(b"old Doe^Jane's scan           rest  "[..36].iter());
        self.dim.iter().for_each(|size| self.put(&mut b, (*size as i16).to_le_bytes()));
        b.resize(70, 0);
        self.put(&mut b, self.datatype.to_le_bytes());
        self.put(&mut b, self.bitpix.to_le_bytes());
        b.resize(76, 0);
        f(&mut b, &self.pixdim);
        f(&mut b, &[self.vox_offset, self.scl[0], self.scl[1]]);
        b.resize(123, 0);
        b.push(self.units as u8);
        b.resize(148, 0);
        b.extend(b"Doe^Jane 1970-01-01");
        b.resize(252, 0);
        self.put(&mut b, (self.qform_code as i16).to_le_bytes());
        self.put(&mut b, (self.sform_code as i16).to_le_bytes());
        f(&mut b, &self.quatern);
        f(&mut b, &self.qoffset);
        self.srow.iter().for_each(|row| f(&mut b, row));
        b.extend(b"Doe^Jane");
        b.resize(344, 0);
        b.extend(self.magic);
        b
    }

    fn header_two(&self) -> Vec<u8> {
        let mut b = Vec::new();
        let f = |b: &mut Vec<u8>, values: &[f64]| values.iter().for_each(|v| self.put(b, v.to_le_bytes()));
        self.put(&mut b, self.sizeof_hdr.to_le_bytes());
        b.extend(self.magic);
        b.extend(b"\r\n\x1a\n");
        self.put(&mut b, self.datatype.to_le_bytes());
        self.put(&mut b, self.bitpix.to_le_bytes());
        self.dim.iter().for_each(|size| self.put(&mut b, size.to_le_bytes()));
        b.resize(104, 0);
        f(&mut b, &self.pixdim);
        self.put(&mut b, (self.vox_offset as i64).to_le_bytes());
        f(&mut b, &self.scl);
        b.resize(240, 0);
        b.extend(b"Doe^Jane 1970-01-01");
        b.resize(344, 0);
        self.put(&mut b, self.qform_code.to_le_bytes());
        self.put(&mut b, self.sform_code.to_le_bytes());
        f(&mut b, &self.quatern);
        f(&mut b, &self.qoffset);
        self.srow.iter().for_each(|row| f(&mut b, row));
        b.resize(500, 0);
        self.put(&mut b, self.units.to_le_bytes());
        b.resize(540, 0);
        b
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut content).unwrap();
    content
}

/// `bytes` in a file of this name, in a folder that lives as long as the first part of the answer.
pub fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
