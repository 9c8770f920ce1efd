//! Small PNG files: one byte a pixel, grey or by palette (PNG specification, third edition).
use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// What a pixel's byte means.
#[derive(Clone, Copy, Debug)]
pub enum Colours<'a> {
    Grey,
    /// Red, green, blue and opacity of each index.
    Palette(&'a [[u8; 4]]),
}

/// A PNG of `width` times `pixels.len() / width` pixels, row by row from the top.
pub fn encode(width: usize, pixels: &[u8], colours: Colours<'_>) -> Vec<u8> {
    let height = pixels.len() / width.max(1);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let colour_type = if matches!(colours, Colours::Grey) { 0 } else { 3 };
    let mut header = Vec::new();
    header.extend((width as u32).to_be_bytes());
    header.extend((height as u32).to_be_bytes());
    header.extend([8, colour_type, 0, 0, 0]);
    chunk(&mut png, b"IHDR", &header);
    if let Colours::Palette(palette) = colours {
        let rgb: Vec<u8> = palette.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect();
        chunk(&mut png, b"PLTE", &rgb);
        chunk(&mut png, b"tRNS", &palette.iter().map(|colour| colour[3]).collect::<Vec<_>>());
    }
    chunk(&mut png, b"IDAT", &packed(width, pixels, matches!(colours, Colours::Grey)));
    chunk(&mut png, b"IEND", &[]);
    png
}

fn chunk(png: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(content);
    png.extend((content.len() as u32).to_be_bytes());
    png.extend(name);
    png.extend(content);
    png.extend(crc.sum().to_be_bytes());
}

/// Rows, each after the number of its filter. Neighbours of a grey image are alike: of "sub" and "up" that with the smaller
/// differences is taken. Indices have no such order.
fn packed(width: usize, pixels: &[u8], filtered: bool) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let mut above = vec![0u8; width];
    let mut write = |filter: u8, row: &[u8]| {
        // Writing into memory does not fail.
        let _ = encoder.write_all(&[filter]).and_then(|()| encoder.write_all(row));
    };
    for row in pixels.chunks_exact(width.max(1)) {
        if filtered {
            let left = std::iter::once(&0).chain(row);
            let sub: Vec<u8> = row.iter().zip(left).map(|(pixel, left)| pixel.wrapping_sub(*left)).collect();
            let up: Vec<u8> = row.iter().zip(&above).map(|(pixel, above)| pixel.wrapping_sub(*above)).collect();
            let size = |row: &[u8]| row.iter().map(|byte| u64::from((*byte as i8).unsigned_abs())).sum::<u64>();
            if size(&sub) <= size(&up) { write(1, &sub) } else { write(2, &up) }
        } else {
            write(0, row);
        }
        above.copy_from_slice(row);
    }
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by voxfit, read back here byte for byte by the specification's own rules for the two filters.
    #[test]
    fn rows_come_back() {
        let (width, height) = (7, 5);
        let pixels: Vec<u8> = (0..width * height).map(|at| (at * at * 3 % 251) as u8).collect();
        let png = encode(width, &pixels, Colours::Grey);
        let (mut at, mut found, mut names) = (8, Vec::new(), Vec::new());
        while at < png.len() {
            let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
            let (name, content) = (&png[at + 4..at + 8], &png[at + 8..at + 8 + length]);
            let mut crc = Crc::new();
            crc.update(&png[at + 4..at + 8 + length]);
            assert_eq!(png[at + 8 + length..at + 12 + length], crc.sum().to_be_bytes());
            names.push(String::from_utf8(name.to_vec()).unwrap());
            if name == b"IDAT" {
                std::io::copy(&mut flate2::read::ZlibDecoder::new(content), &mut found).unwrap();
            }
            at += 12 + length;
        }
        assert_eq!(names, ["IHDR", "IDAT", "IEND"]);
        let mut rows: Vec<Vec<u8>> = vec![vec![0; width]];
        for row in found.chunks(width + 1) {
            let mut pixels = Vec::new();
            for (x, byte) in row[1..].iter().enumerate() {
                let before = match row[0] {
                    1 => {
                        if x > 0 {
                            pixels[x - 1]
                        } else {
                            0
                        }
                    }
                    2 => rows.last().unwrap()[x],
                    filter => panic!("{filter}"),
                };
                pixels.push(byte.wrapping_add(before));
            }
            rows.push(pixels);
        }
        assert_eq!(rows[1..].concat(), pixels);
    }
}
