//! Two sets of weights, tensor by tensor.
use std::collections::BTreeSet;

use serde::Serialize;

use crate::train::checkpoint::Checkpoint;

/// A tensor that is not the same bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDifference {
    /// As in checkpoints.
    pub name: String,
    /// None where a run has no such tensor.
    pub shapes: [Option<Vec<usize>>; 2],
    /// Values whose bits differ, of how many; all of the larger tensor where the shapes differ.
    pub values: usize,
    /// Values of the larger of the two tensors.
    pub of: usize,
    /// The largest difference; none where the shapes differ, or where a value is no finite number.
    pub absolute: Option<f64>,
    /// The largest difference as a share of the larger of the two values.
    pub relative: Option<f64>,
}

/// The tensors that differ, by name, and how many there are in either.
pub(super) fn differences(a: &Checkpoint, b: &Checkpoint) -> (Vec<TensorDifference>, usize) {
    let [a, b] = [a.weights(), b.weights()];
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let count = names.len();
    let differ = |name: &str| match (a.get(name), b.get(name)) {
        (Some((shape, a)), Some((other, b))) if shape == other => {
            let found = difference(name, shape, a, b);
            (found.values > 0).then_some(found)
        }
        (a, b) => {
            let length = |tensor: Option<&(&[usize], &[f32])>| tensor.map_or(0, |(_, values)| values.len());
            let of = length(a).max(length(b));
            let shapes = [a, b].map(|tensor| tensor.map(|(shape, _)| shape.to_vec()));
            Some(TensorDifference { name: name.to_owned(), shapes, values: of, of, absolute: None, relative: None })
        }
    };
    (names.into_iter().filter_map(differ).collect(), count)
}

fn difference(name: &str, shape: &[usize], a: &[f32], b: &[f32]) -> TensorDifference {
    let (mut values, mut absolute, mut relative, mut finite) = (0, 0.0f64, 0.0f64, true);
    for (a, b) in a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()) {
        values += 1;
        finite &= a.is_finite() && b.is_finite();
        let (a, b) = (f64::from(*a), f64::from(*b));
        absolute = absolute.max((a - b).abs());
        // 0 and -0 differ in their bits and by nothing.
        if a != b {
            relative = relative.max((a - b).abs() / a.abs().max(b.abs()));
        }
    }
    TensorDifference {
        name: name.to_owned(),
        shapes: [Some(shape.to_vec()), Some(shape.to_vec())],
        values,
        of: a.len(),
        absolute: finite.then_some(absolute),
        relative: finite.then_some(relative),
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn bits_are_counted_and_sizes_measured() {
        let found = difference("a", &[4], &[1.0, 2.0, -4.0, 0.0], &[1.0, 2.5, -3.0, -0.0]);
        assert_eq!((found.values, found.of), (3, 4));
        assert_eq!((found.absolute, found.relative), (Some(1.0), Some(0.25)));
        let found = difference("a", &[1], &[f32::NAN], &[1.0]);
        assert_eq!((found.values, found.absolute, found.relative), (1, None, None));
        assert_eq!(difference("a", &[1], &[f32::NAN], &[f32::NAN]).values, 0);
    }
}
