//! From a volume, its label and its prediction to slices: cut to what is outlined, made small, turned as radiologists look.
use ndarray::{Array3, ArrayView3, s};

use super::png::{Colours, encode};
use super::{Plane, Slice};

/// Colours of classes, before they repeat: red, green, blue, as in the page's style.
const PALETTE: [[u8; 3]; COLOURS] = [
    [255, 90, 95],
    [53, 208, 127],
    [74, 163, 255],
    [255, 210, 63],
    [213, 123, 255],
    [63, 224, 224],
    [255, 159, 67],
    [247, 127, 190],
];
/// Classes that can be told apart by colour.
pub const COLOURS: usize = 8;
/// Opacity of a filled label, of 255.
const FILL: u8 = 84;
/// Bytes of all PNG files of a case: in base64 and of three cases that is 4 MiB.
const MOST_BYTES: usize = 1 << 20;
/// Longest edge in pixels and slices of a plane, from fine to coarse: the first that has room is taken.
const SIZES: [(usize, usize); 7] = [(256, 24), (224, 20), (192, 18), (160, 14), (128, 12), (96, 10), (64, 8)];
/// Edge in pixels that outlines are drawn for at least.
const OUTLINE_EDGE: f64 = 288.0;
/// Around what is outlined: a share of it, and mm at the least.
const MARGIN: (f64, f64) = (0.25, 10.0);
/// Of the voxels, below and above which all is black or white.
const WINDOW: f64 = 0.005;
/// Voxels that this is found from.
const SAMPLED: usize = 1_000_000;

/// A box of voxels, z, y, x: the first of each axis, and one after the last.
pub type Bounds = [[usize; 2]; 3];

/// What is neither background nor ignored in either map (`[z, y, x]`); everything where nothing is.
pub fn foreground(label: ArrayView3<'_, u16>, prediction: ArrayView3<'_, u16>, ignore: Option<u16>) -> Bounds {
    let mut found = [[usize::MAX, 0]; 3];
    let shown = |value: u16| value != 0 && Some(value) != ignore;
    for ((z, y, x), &label) in label.indexed_iter() {
        if shown(label) || shown(prediction[[z, y, x]]) {
            for (axis, at) in [z, y, x].into_iter().enumerate() {
                found[axis] = [found[axis][0].min(at), found[axis][1].max(at + 1)];
            }
        }
    }
    if found[0][1] == 0 {
        let (z, y, x) = label.dim();
        return [[0, z], [0, y], [0, x]];
    }
    found
}

/// `bounds` and some of what is around, within `size`; `spacing` in mm, z, y, x.
pub fn surroundings(bounds: Bounds, size: [usize; 3], spacing: [f64; 3]) -> Bounds {
    std::array::from_fn(|axis| {
        let [low, high] = bounds[axis];
        let spacing = spacing[axis].max(1e-3);
        let margin = ((high - low) as f64 * MARGIN.0).max(MARGIN.1 / spacing).ceil() as usize;
        [low.saturating_sub(margin), high.saturating_add(margin).min(size[axis])]
    })
}

/// A case, cut to `crop`; all arrays `[z, y, x]` of the crop's size.
pub struct Cut {
    pub crop: Bounds,
    /// Within the whole volume, as `crop`.
    pub foreground: Bounds,
    /// Of the whole volume.
    pub size: [usize; 3],
    /// mm, z, y, x.
    pub spacing: [f64; 3],
    pub image: Array3<f32>,
    pub label: Array3<u16>,
    pub prediction: Array3<u16>,
}

/// Axis, its name, the axes of rows and columns, and which side is where.
const PLANES: [(usize, &str, [usize; 2], &str); 3] = [
    (0, "axial", [1, 2], "front above, right on the left"),
    (1, "coronal", [0, 2], "head above, right on the left"),
    (2, "sagittal", [0, 1], "head above, front on the left"),
];

impl Cut {
    /// The three planes, as fine as there is room for.
    pub fn planes(&self, ignore: Option<u16>) -> Vec<Plane> {
        let grey = self.grey();
        let mut planes = Vec::new();
        for (edge, count) in SIZES {
            planes = PLANES.iter().map(|plane| self.plane(&grey, *plane, (edge, count), ignore)).collect();
            let slices = planes.iter().flat_map(|plane: &Plane| &plane.slices);
            let bytes: usize = slices.map(|slice| slice.grey.len() + slice.label.len() + slice.prediction.len()).sum();
            if bytes <= MOST_BYTES {
                break;
            }
        }
        planes
    }

    /// The image in 64 greys between its outer percentiles: what an eye tells apart, and small once packed.
    fn grey(&self) -> Array3<u8> {
        let every = self.image.len() / SAMPLED + 1;
        let mut values: Vec<f32> =
            self.image.iter().step_by(every).copied().filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            return Array3::zeros(self.image.dim());
        }
        let mut at = |share: f64| {
            let place = (share * (values.len() - 1) as f64) as usize;
            *values.select_nth_unstable_by(place, f32::total_cmp).1
        };
        let (low, high) = (f64::from(at(WINDOW)), f64::from(at(1.0 - WINDOW)));
        let range = if high > low { high - low } else { 1.0 };
        // NaN becomes black.
        self.image.mapv(|value| ((f64::from(value) - low) / range * 255.0).clamp(0.0, 255.0) as u8 & 0xfc)
    }

    fn plane(
        &self,
        grey: &Array3<u8>,
        (axis, name, [rows, columns], sides): (usize, &'static str, [usize; 2], &'static str),
        (edge, count): (usize, usize),
        ignore: Option<u16>,
    ) -> Plane {
        let length = |axis: usize| self.crop[axis][1] - self.crop[axis][0];
        let size = [columns, rows].map(|axis| length(axis) as f64 * self.spacing[axis]);
        let step = [rows, columns].map(|axis| length(axis).div_ceil(edge).max(1));
        let longest = size[0].max(size[1]).max(1e-6);
        // Pixels of an outline are about as wide as high, whatever the voxels are.
        let times: [usize; 2] = std::array::from_fn(|at| {
            let axis = [rows, columns][at];
            let pixels = length(axis).div_ceil(step[at]) as f64;
            ((OUTLINE_EDGE * size[1 - at] / longest / pixels).round() as usize).clamp(1, 16)
        });
        let mut first = (0, 0);
        let mut slices = Vec::new();
        for at in evenly(self.foreground[axis], count) {
            let place = ndarray::Axis(axis);
            let within = at - self.crop[axis][0];
            let grey = shrunk(grey.index_axis(place, within), step);
            let [label, prediction] = [&self.label, &self.prediction].map(|map| {
                let map = map.index_axis(place, within);
                map.mapv(
                    |value| if Some(value) == ignore || value == 0 { 0 } else { (value - 1) as usize % COLOURS + 1 },
                )
            });
            let shown = label.iter().chain(&prediction).filter(|value| **value > 0).count();
            if shown > first.1 {
                first = (slices.len(), shown);
            }
            let [label, prediction] = [label, prediction].map(|map| enlarged(&map, step, times));
            let width = grey.ncols();
            slices.push(Slice {
                at,
                grey: encode(width, &turned(&grey), Colours::Grey),
                label: encode(label.ncols(), &turned(&label), Colours::Palette(&palette(FILL))),
                prediction: encode(prediction.ncols(), &turned(&outline(&prediction)), Colours::Palette(&palette(255))),
            });
        }
        Plane { name, sides, size, of: self.size[axis], slices, first: first.0 }
    }
}

/// Up to `count` places of a range, from its first to its last.
fn evenly([low, high]: [usize; 2], count: usize) -> Vec<usize> {
    let length = high.saturating_sub(low).max(1);
    let count = count.min(length);
    (0..count).map(|number| low + if count > 1 { number * (length - 1) / (count - 1) } else { length / 2 }).collect()
}

fn palette(opacity: u8) -> Vec<[u8; 4]> {
    let colours = PALETTE.iter().map(|[r, g, b]| [*r, *g, *b, opacity]);
    std::iter::once([0; 4]).chain(colours).collect()
}

/// Means of boxes of `step` voxels.
fn shrunk(plane: ndarray::ArrayView2<'_, u8>, step: [usize; 2]) -> ndarray::Array2<u8> {
    let (rows, columns) = plane.dim();
    ndarray::Array2::from_shape_fn((rows.div_ceil(step[0]), columns.div_ceil(step[1])), |(row, column)| {
        let end = |at: usize, step: usize, length: usize| ((at + 1) * step).min(length);
        let part =
            plane.slice(s![row * step[0]..end(row, step[0], rows), column * step[1]..end(column, step[1], columns)]);
        let sum: u32 = part.iter().map(|value| u32::from(*value)).sum();
        (sum / part.len().max(1) as u32) as u8 & 0xfc
    })
}

/// Every `step`th voxel, `times` times.
fn enlarged(plane: &ndarray::Array2<usize>, step: [usize; 2], times: [usize; 2]) -> ndarray::Array2<u8> {
    let (rows, columns) = plane.dim();
    let size = [rows.div_ceil(step[0]) * times[0], columns.div_ceil(step[1]) * times[1]];
    ndarray::Array2::from_shape_fn((size[0], size[1]), |(row, column)| {
        let from =
            |at: usize, axis: usize, length: usize| (at / times[axis] * step[axis] + step[axis] / 2).min(length - 1);
        plane[[from(row, 0, rows), from(column, 1, columns)]] as u8
    })
}

/// Pixels of a class with a neighbour that is not of it, two pixels deep.
fn outline(plane: &ndarray::Array2<u8>) -> ndarray::Array2<u8> {
    let (rows, columns) = plane.dim();
    ndarray::Array2::from_shape_fn((rows, columns), |(row, column)| {
        let value = plane[[row, column]];
        let near = |at: usize, length: usize| at.saturating_sub(2)..(at + 3).min(length);
        let edge = value > 0
            && (near(row, rows).any(|row| plane[[row, column]] != value)
                || near(column, columns).any(|column| plane[[row, column]] != value)
                || [(0, 0), (0, 2), (2, 0), (2, 2)].iter().any(|(down, right)| {
                    let neighbour = (row + down).checked_sub(1).zip((column + right).checked_sub(1));
                    neighbour.and_then(|place| plane.get(place)).is_some_and(|other| *other != value)
                }));
        if edge { value } else { 0 }
    })
}

/// From RAS to what is looked at: both axes run the other way.
fn turned(plane: &ndarray::Array2<u8>) -> Vec<u8> {
    plane.slice(s![..;-1, ..;-1]).iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst there is to pack: noise.
    #[test]
    fn a_case_stays_within_its_bytes() {
        let size = [300, 320, 310];
        let mut state = 1u32;
        let image = Array3::from_shape_fn(size, |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32
        });
        let label = Array3::from_shape_fn(size, |(z, y, x)| ((z / 40 + y / 50 + x / 60) % 12) as u16);
        let prediction = label.mapv(|value| value / 2);
        let bounds = foreground(label.view(), prediction.view(), None);
        assert_eq!(bounds, [[0, 300], [0, 320], [0, 310]]);
        let crop = surroundings(bounds, size, [1.0; 3]);
        let cut = Cut { crop, foreground: bounds, size, spacing: [1.0; 3], image, label, prediction };
        let planes = cut.planes(Some(11));
        let slices: Vec<&Slice> = planes.iter().flat_map(|plane| &plane.slices).collect();
        let bytes: usize =
            slices.iter().map(|slice| slice.grey.len() + slice.label.len() + slice.prediction.len()).sum();
        assert!(bytes <= MOST_BYTES && slices.len() >= 24, "{bytes} bytes in {} slices", slices.len());
    }

    #[test]
    fn what_is_outlined_is_found_with_its_surroundings() {
        let mut label = Array3::zeros((10, 20, 30));
        let mut prediction = label.clone();
        label[[9, 9, 9]] = 2;
        label[[0, 0, 0]] = 7;
        prediction[[5, 10, 11]] = 1;
        let found = foreground(label.view(), prediction.view(), Some(7));
        assert_eq!(found, [[5, 10], [9, 11], [9, 12]]);
        assert_eq!(surroundings(found, [10, 20, 30], [5.0, 2.0, 100.0]), [[3, 10], [4, 16], [8, 13]]);
        assert_eq!(
            (evenly([5, 10], 24), evenly([0, 9], 3), evenly([4, 5], 3)),
            (vec![5, 6, 7, 8, 9], vec![0, 4, 8], vec![4])
        );
    }

    /// An L of 2 x 3 voxels: where its corner comes to stand on the screen.
    #[test]
    fn right_is_on_the_left_and_the_head_above() {
        let plane = ndarray::array![[1u8, 2, 3], [4, 5, 6]];
        assert_eq!(turned(&plane), [6, 5, 4, 3, 2, 1]);
        let filled = ndarray::Array2::from_elem((9, 9), 1u8);
        let mut with_hole = filled.clone();
        with_hole[[4, 4]] = 0;
        assert!(outline(&filled).iter().all(|value| *value == 0), "the edge of the picture is no outline");
        assert_eq!(outline(&with_hole).iter().filter(|value| **value > 0).count(), 12);
    }
}
