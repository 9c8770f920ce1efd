//! Time and peak memory of preparing a dataset, step by step:
//! `cargo bench --bench prepare -- DATASET [SPACING]` and `cargo bench --bench prepare -- make FOLDER [X,Y,Z]`.
//!
//! SPACING in mm (as in `1` or `0.8,0.8,1.5`) is that of the plan; without it, the one that nnU-Net's rules plan. `make`
//! writes a dataset of one made CT, of 512 x 512 x 300 voxels of 0.8 x 0.8 x 1.5 mm where no other size is given.
use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use voxfit::config::{Config, resolve};
use voxfit::dataset::store::Store;
use voxfit::dataset::{Dataset, fingerprint};
use voxfit::memory::meter;
use voxfit::volume;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => make(Path::new(folder), [512, 512, 300]),
        ["make", folder, size] => make(Path::new(folder), triple(size)?.map(|voxels| voxels as usize)),
        [dataset] => prepare(Path::new(dataset), None),
        [dataset, spacing] => prepare(Path::new(dataset), Some(triple(spacing)?)),
        // Without a dataset there is nothing to measure; `cargo bench` runs every bench.
        _ => {
            println!("name a dataset: cargo bench --bench prepare -- DATASET [SPACING]");
            Ok(())
        }
    }
}

/// `1` or `0.8,0.8,1.5`.
fn triple(text: &str) -> Result<[f64; 3], Box<dyn Error>> {
    let values = text.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    match values[..] {
        [one] => Ok([one; 3]),
        [x, y, z] => Ok([x, y, z]),
        _ => Err("three numbers, or one for all".into()),
    }
}

fn prepare(folder: &Path, spacing: Option<[f64; 3]>) -> Result<(), Box<dyn Error>> {
    let cache = tempfile::tempdir()?;
    let dataset = Dataset::open(folder)?;
    let step = |name: &str, started: Instant| {
        let peak = meter::peak_bytes().map_or(0, |bytes| bytes >> 20);
        println!("{name:<12} {:8.2} s, peak {peak} MiB", started.elapsed().as_secs_f64());
        meter::reset_peak();
    };
    let all = Instant::now();

    let started = Instant::now();
    dataset.digest_memoised(cache.path())?;
    step("digest", started);

    let started = Instant::now();
    let print = fingerprint::remembered(&dataset, cache.path(), voxfit::dataset::DEFAULT_MEMORY)?;
    step("fingerprint", started);

    let experiment = Config::parse("", Path::new("prepare.toml"), &[])?.experiment;
    let mut preparation = resolve(&experiment, &print, &dataset)?.preparation;
    preparation.spacing = spacing.unwrap_or(preparation.spacing);
    let started = Instant::now();
    let store = Store::open_or_prepare(cache.path(), &dataset, &preparation, &|_, _| {})?;
    step("preparation", started);

    println!("{:<12} {:8.2} s", "in all", all.elapsed().as_secs_f64());
    let voxels: usize = store.cases().iter().map(|case| case.size().iter().product::<usize>()).sum();
    println!(
        "{} cases to {:?} mm (x, y, z): {voxels} voxels, the first case {:?} (z, y, x)",
        store.cases().len(),
        preparation.spacing,
        store.cases()[0].size()
    );
    // The files end in the digest of all that they hold: one line to see whether bits changed.
    let mut all = String::new();
    for case in store.cases() {
        let bytes = fs::read(case.path())?;
        // Without the header, which names the version.
        all.push_str(&voxfit::files::sha256_hex(&bytes[bytes.len() - case_bytes(case)..]));
    }
    println!("sha256 of images, labels and their digests: {}", voxfit::files::sha256_hex(all.as_bytes()));
    Ok(())
}

/// Image in f16 and label in u8.
fn case_bytes(case: &voxfit::dataset::store::StoredCase) -> usize {
    case.size().iter().product::<usize>() * (2 * case.channels() + 1)
}

/// Appends the bytes of a voxel: where it is, from -1 to 1 along each axis, and its number.
type Voxel<'a> = dyn Fn([f64; 3], u64, &mut Vec<u8>) + 'a;

/// A body of two organs with grain, int16, plane by plane.
fn make(folder: &Path, [width, height, depth]: [usize; 3]) -> Result<(), Box<dyn Error>> {
    let spacing = [0.8, 0.8, 1.5];
    let write = |name: &str, datatype: i16, bits: i16, voxel: &Voxel<'_>| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let file = BufWriter::new(fs::File::create(path)?);
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        file.write_all(&header([width, height, depth], spacing, datatype, bits))?;
        let mut plane = Vec::new();
        for z in 0..depth {
            plane.clear();
            for y in 0..height {
                for x in 0..width {
                    let at = [x, y, z].map(|index| index as f64);
                    let size = [width, height, depth].map(|size| size as f64);
                    let place = std::array::from_fn(|axis| 2.0 * (at[axis] + 0.5) / size[axis] - 1.0);
                    voxel(place, ((z * height + y) * width + x) as u64, &mut plane);
                }
            }
            file.write_all(&plane)?;
        }
        file.finish()?.flush()
    };
    let inside = |[x, y, z]: [f64; 3], [cx, cy, cz]: [f64; 3], [a, b, c]: [f64; 3]| {
        ((x - cx) / a).powi(2) + ((y - cy) / b).powi(2) + ((z - cz) / c).powi(2) < 1.0
    };
    let organ = |place: [f64; 3]| match place {
        _ if inside(place, [-0.3, 0.1, 0.2], [0.35, 0.3, 0.4]) => 1,
        _ if inside(place, [0.4, -0.1, -0.2], [0.15, 0.2, 0.3]) => 2,
        _ => 0,
    };
    write("imagesTr/ct.nii.gz", 4, 16, &|place, index, bytes| {
        // Steele's mix of a counter: grain that no packing takes away, and the same everywhere.
        let mut grain = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        grain = (grain ^ (grain >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let grain = ((grain ^ (grain >> 27)) >> 58) as i16 - 32;
        let body = inside(place, [0.0; 3], [0.8, 0.6, 2.0]);
        let value = if body { [40, 110, 180][organ(place)] } else { -1000 };
        bytes.extend((value + grain).to_le_bytes());
    })?;
    write("labelsTr/ct.nii.gz", 2, 8, &|place, _, bytes| bytes.push(organ(place) as u8))?;
    let description = r#"{"name": "Made CT", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "large", "2": "small"},
 "training": [{"image": "imagesTr/ct.nii.gz", "label": "labelsTr/ct.nii.gz"}]}"#;
    fs::write(folder.join("dataset.json"), description)?;
    println!("{}", volume::read_header(&folder.join("imagesTr/ct.nii.gz"))?.dtype);
    Ok(())
}

/// Of NIfTI-1, with an sform along R, A, S.
fn header(size: [usize; 3], spacing: [f64; 3], datatype: i16, bits: i16) -> Vec<u8> {
    let mut header = vec![0; 352];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    put(40, &3i16.to_le_bytes());
    put(70, &datatype.to_le_bytes());
    put(72, &bits.to_le_bytes());
    put(76, &1f32.to_le_bytes());
    for axis in 0..3 {
        put(42 + 2 * axis, &(size[axis] as i16).to_le_bytes());
        put(80 + 4 * axis, &(spacing[axis] as f32).to_le_bytes());
        put(280 + 20 * axis, &(spacing[axis] as f32).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(123, &[2]);
    put(254, &1i16.to_le_bytes());
    put(344, b"n+1\0");
    header
}
