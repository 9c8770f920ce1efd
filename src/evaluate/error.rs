//! What can be wrong with two folders of label maps.
use std::path::PathBuf;

use crate::volume::VolumeError;

/// One sentence each: which file, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A label map that cannot be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A folder that cannot be read.
    #[error("{path}: {source}; check that it exists and can be read", path = path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without label maps.
    #[error("{path}: no label map (.nii or .nii.gz) in it; give the folder that holds the {role}", path = path.display())]
    Empty {
        /// The file or folder at fault.
        path: PathBuf,
        /// `predictions` or `labels`.
        role: &'static str,
    },
    /// A prediction that has nothing to be held against.
    #[error("{path}: no label of this name in {labels}; give the folder of its labels, or take the prediction out", path = path.display(), labels = labels.display())]
    NoLabel {
        /// The prediction.
        path: PathBuf,
        /// Where its label was looked for.
        labels: PathBuf,
    },
    /// A label that nobody predicted, where a single file was given.
    #[error("{path}: no prediction of this name in {predictions}; predict the case first", path = path.display(), predictions = predictions.display())]
    NoPrediction {
        /// The label.
        path: PathBuf,
        /// Where its prediction was looked for.
        predictions: PathBuf,
    },
    /// Two files of one case, as `a.nii` and `a.nii.gz`.
    #[error("{first} and {second} are both case {case}; keep one of them", first = first.display(), second = second.display())]
    Twice {
        /// One of the files.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The case's id.
        case: String,
    },
    /// A prediction on another grid than its label.
    #[error("{prediction} is not on the grid of {label}: {difference}; predict on the image that the label was drawn on", prediction = prediction.display(), label = label.display())]
    Grid {
        /// The predicted label map.
        prediction: PathBuf,
        /// The label that it is held against.
        label: PathBuf,
        /// What differs, in voxels or mm.
        difference: String,
    },
    /// Ranks that do not share the cases, a sentence.
    #[error("{0}")]
    Ranks(String),
    /// A tolerance of NSD that is no length, mm.
    #[error("tolerance {0} mm: not a length; give a number of mm that is 0 or larger, such as 1")]
    Tolerance(f64),
}
