//! What can be wrong with two folders of label maps.
use std::path::PathBuf;

use crate::volume::VolumeError;

/// One sentence each: which file, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("{path}: {source}; check that it exists and can be read", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: no label map (.nii or .nii.gz) in it; give the folder that holds the {role}", path = path.display())]
    Empty { path: PathBuf, role: &'static str },
    #[error("{path}: no label of this name in {labels}; give the folder of its labels, or take the prediction out", path = path.display(), labels = labels.display())]
    NoLabel { path: PathBuf, labels: PathBuf },
    #[error("{path}: no prediction of this name in {predictions}; predict the case first", path = path.display(), predictions = predictions.display())]
    NoPrediction { path: PathBuf, predictions: PathBuf },
    #[error("{first} and {second} are both case {case}; keep one of them", first = first.display(), second = second.display())]
    Twice { first: PathBuf, second: PathBuf, case: String },
    #[error("{prediction} is not on the grid of {label}: {difference}; predict on the image that the label was drawn on", prediction = prediction.display(), label = label.display())]
    Grid { prediction: PathBuf, label: PathBuf, difference: String },
    #[error("tolerance {0} mm: not a length; give a number of mm that is 0 or larger, such as 1")]
    Tolerance(f64),
}
