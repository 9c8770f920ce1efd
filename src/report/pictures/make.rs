//! Where pictures come from: a case predicted again, its label and its first channel.
use std::path::{Path, PathBuf};

use ndarray::{Array3, s};

use super::paint::{Bounds, Cut, foreground, surroundings};
use super::{CasePictures, Chosen, choose};
use crate::config::{Auto, ByteSize, Device};
use crate::dataset::{Case, Dataset, Remap, label_map};
use crate::memory::budget;
use crate::network::UNet;
use crate::predict::{Memory, Predictor, PredictorSettings, check};
use crate::report::{ReportError, RunRecord};
use crate::train::{TrainError, as_recorded, checkpoint, checkpoint_path};
use crate::volume;

/// Predicts `case`, which is the chosen one, and paints it.
///
/// # Errors
/// Files that cannot be read, a label on another grid.
pub fn of_case(
    predictor: &Predictor<'_>,
    case: &Case,
    chosen: Chosen,
    remap: &Remap,
    ignore: Option<u16>,
) -> Result<CasePictures, ReportError> {
    let prediction = predictor.labels(&case.images)?.labels;
    let label = label_map(&case.label, remap).map_err(TrainError::from)?;
    if prediction.dim() != label.data.dim() {
        let problem = "has another size than the image";
        return Err(ReportError::run(&case.label, problem, "look at the dataset with `voxfit check`"));
    }
    let (z, y, x) = prediction.dim();
    let (size, spacing) = ([z, y, x], crate::zyx(label.geometry.spacing()));
    let found = foreground(label.data.view(), prediction.view(), ignore);
    let crop = surroundings(found, size, spacing);
    let [z, y, x] = crop.map(|[low, high]| low..high);
    let part = |map: &Array3<u16>| map.slice(s![z.clone(), y.clone(), x.clone()]).to_owned();
    let (cut_label, cut_prediction) = (part(&label.data), part(&prediction));
    // Of a large volume the rest is not needed any more.
    drop((label, prediction));
    let image = first_channel(&case.images, size, crop)?;
    let cut = Cut { crop, foreground: found, size, spacing, image, label: cut_label, prediction: cut_prediction };
    let Chosen { role, case, dice } = chosen;
    Ok(CasePictures { role, case, dice, planes: cut.planes(ignore) })
}

/// Of the first channel what is in `crop`; no more of it is in memory.
fn first_channel(files: &[PathBuf], size: [usize; 3], crop: Bounds) -> Result<Array3<f32>, ReportError> {
    let mut image = Array3::zeros(crop.map(|[low, high]| high - low));
    let Some(file) = files.first() else { return Ok(image) };
    let volumes = volume::read_header(file)?.volumes;
    volume::read_pieces(file, (volumes, size), |number, start, piece| {
        if number > 0 {
            return Ok(());
        }
        let (d, h, w) = piece.dim();
        let from: [[usize; 2]; 3] = std::array::from_fn(|axis| {
            let end = start[axis] + [d, h, w][axis];
            [crop[axis][0].max(start[axis]), crop[axis][1].min(end)]
        });
        if from.iter().all(|[low, high]| low < high) {
            let [a, b, c]: [_; 3] = std::array::from_fn(|axis| from[axis].map(|at| at - start[axis]));
            let [z, y, x]: [_; 3] = std::array::from_fn(|axis| from[axis].map(|at| at - crop[axis][0]));
            let part = piece.slice(s![a[0]..a[1], b[0]..b[1], c[0]..c[1]]);
            image.slice_mut(s![z[0]..z[1], y[0]..y[1], x[0]..x[1]]).assign(&part);
        }
        Ok(())
    })?;
    Ok(image)
}

/// Where a run's pictures come from.
pub struct Source<'a> {
    /// The finished run.
    pub run: &'a RunRecord,
    /// The dataset's folder.
    pub dataset: PathBuf,
    /// The most that the process may hold.
    pub memory: Auto<ByteSize>,
    /// Folder for what has no room in memory.
    pub scratch: &'a Path,
}

/// Pictures of a finished run, predicted with its last weights; `tell` hears of each case.
///
/// # Errors
/// No dataset there, or another; cases that were changed; a budget that has no room.
pub fn of_run(source: &Source<'_>, tell: &dyn Fn(usize, usize)) -> Result<Vec<CasePictures>, ReportError> {
    let Source { run, dataset: root, memory, scratch } = source;
    let chosen = run.summary.as_ref().map(choose).unwrap_or_default();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let (dataset, shown) = as_recorded(root, &run.plan.remap, &run.manifest)?;
    let mut cases = Vec::new();
    for chosen in chosen {
        let found = shown.cases.iter().position(|case| case.id == chosen.case);
        let case = found.and_then(|at| dataset.cases.get(at)).ok_or_else(|| {
            let problem = format!("case {} of the run is not in this dataset", chosen.case);
            ReportError::run(root, problem, "give the run's dataset by --data DIR")
        })?;
        unchanged(run, &dataset, case, &chosen.case)?;
        cases.push((case, chosen));
    }
    let plan = &run.plan;
    let budget = match memory {
        Auto::Value(budget) => Some(budget.0),
        Auto::Auto => budget::automatic(),
    };
    let files = cases.iter().map(|(case, chosen)| (chosen.case.as_str(), case.images.as_slice()));
    check(budget, plan, (1, 1), files, false)?;
    let device = crate::device::open(Device::Cpu)
        .map_err(|problem| ReportError::run(&run.folder, problem, "make the page without pictures by --no-images"))?;
    let path = checkpoint_path(&run.folder, "last");
    let mut saved = checkpoint::load_weights(&path)?;
    let mut network = UNet::new(&plan.network, 0, &device);
    saved.restore_weights(&mut network, &path)?;
    drop(saved);
    let predictor = Predictor {
        networks: vec![&network],
        preparation: &plan.preparation,
        settings: PredictorSettings::of(plan, device),
        memory: Memory::new(budget, scratch),
        tiles: None,
    };
    let total = cases.len();
    let paint = |(done, (case, chosen)): (usize, (&Case, Chosen))| {
        tell(done, total);
        of_case(&predictor, case, chosen, &plan.remap, plan.ignore)
    };
    cases.into_iter().enumerate().map(paint).collect()
}

/// That the case's files are those that the run was trained on.
fn unchanged(run: &RunRecord, dataset: &Dataset, case: &Case, shown: &str) -> Result<(), ReportError> {
    let Some(known) = run.manifest.volumes_sha256.get(shown) else { return Ok(()) };
    let found = dataset.volume_digests(case).map_err(TrainError::from)?;
    for (name, path) in dataset.volumes(case) {
        if known.get(&name) != found.get(&name) {
            let problem = format!("{name} of case {shown} is not the file that the run was trained on");
            return Err(ReportError::run(path, problem, "give the run's dataset by --data DIR"));
        }
    }
    Ok(())
}
