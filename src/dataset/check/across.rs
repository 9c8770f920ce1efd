//! What only all cases together show: copies, classes that nobody has, values and grids that do not belong.
use std::collections::{BTreeMap, BTreeSet};

use super::Severity;
use super::case::{Ct, Looked};
use crate::dataset::{Channel, Dataset, DatasetError, layout};

/// Cases from which on a median says what is usual.
const MANY: usize = 5;
/// A spacing so many times finer or coarser than the median is another kind of image, or a wrong header.
const FAR: f64 = 3.0;
/// Values of a remap that are written out.
const OFFERED: usize = 12;

type Whole = Vec<(Severity, DatasetError)>;

/// Adds to the cases what is seen of them beside the others; what belongs to no case is returned.
pub(super) fn look(dataset: &Dataset, complete: bool, looked: &mut [Looked]) -> Whole {
    copies(dataset, looked);
    spacings(dataset, looked);
    let mut whole = never_negative(dataset, looked);
    whole.extend(orientations(dataset, looked));
    offer(dataset, looked);
    whole.extend(classes(dataset, complete, looked));
    whole
}

/// Classes that no case has, or few.
fn classes(dataset: &Dataset, complete: bool, looked: &[Looked]) -> Whole {
    let mut whole = Whole::new();
    let seen: Option<Vec<&Vec<u64>>> = looked.iter().map(|looked| looked.classes.as_ref()).collect();
    let Some(seen) = seen.filter(|seen| complete && !seen.is_empty()) else { return whole };
    for (class, name) in dataset.classes.iter().enumerate().skip(1) {
        let few = seen.iter().filter(|counts| counts[class] > 0).count();
        let mut say = |severity, problem: String, cure: &str| {
            let file = dataset.root.join(layout::DESCRIPTION);
            whole.push((severity, DatasetError::invalid(file, format!("labels.{class}"), problem, cure)));
        };
        if few == 0 {
            let problem = format!("class {class} ({name}) has no voxel in any case");
            say(Severity::Fault, problem, "remove the class, or add cases that show it");
        } else if few < MANY.min(seen.len()) {
            let problem = format!("class {class} ({name}) is in {few} of {} cases only", seen.len());
            let cure =
                "so few are easily all held out, or none: data.split = \"stratified\" spreads them over the folds";
            say(Severity::Warning, problem, cure);
        }
    }
    whole
}

/// Cases with the voxels of an earlier one.
fn copies(dataset: &Dataset, looked: &mut [Looked]) {
    let mut first: BTreeMap<Vec<[u8; 32]>, usize> = BTreeMap::new();
    for index in 0..looked.len() {
        if looked[index].images.is_empty() {
            continue;
        }
        let other = *first.entry(looked[index].images.clone()).or_insert(index);
        if other == index {
            continue;
        }
        let file = dataset.cases[index].images.first().unwrap_or(&dataset.cases[index].label);
        let id = &dataset.cases[other].id;
        if looked[index].label == looked[other].label {
            let problem = format!("the same voxels and labels as {id}");
            let cure = "leave one of them out: a copy that is held out was trained on";
            looked[index].faults.push(DatasetError::invalid(file, "voxels", problem, cure));
        } else {
            let problem = format!("the same voxels as {id}, labelled otherwise");
            let cure = "where two people outlined one image, keep the cases together by data.group (or `groups` in \
                        dataset.json); else put the right image in its place";
            looked[index].warnings.push(DatasetError::invalid(file, "voxels", problem, cure));
        }
    }
}

/// CT channels that look as if they were not in Hounsfield units: of one case, or of all.
fn never_negative(dataset: &Dataset, looked: &mut [Looked]) -> Whole {
    const CURE: &str = "convert from the source with its rescale intercept, or give the channel another name than CT";
    let mut whole = Whole::new();
    for (channel, Channel { name, .. }) in dataset.channels.iter().enumerate() {
        let cts = || looked.iter().flat_map(|looked| &looked.cts).filter(|ct| ct.channel == channel);
        if cts().count() > 1 && cts().all(|ct| ct.never_negative) {
            let problem =
                format!("channel {channel} ({name}) has no voxel below 0 in any case: these are no Hounsfield units");
            whole.push((Severity::Warning, DatasetError::invalid(&dataset.root, "voxels", problem, CURE)));
            looked.iter_mut().for_each(|looked| looked.cts.retain(|ct| ct.channel != channel));
        }
    }
    for looked in looked {
        for Ct { channel, file, .. } in looked.cts.iter().filter(|ct| ct.never_negative) {
            let problem =
                format!("channel {channel}, a CT, has no voxel below 0, as if it were not in Hounsfield units");
            looked.warnings.push(DatasetError::invalid(file, "voxels", problem, CURE));
        }
    }
    whole
}

/// Files whose axes lie differently.
fn orientations(dataset: &Dataset, looked: &[Looked]) -> Option<(Severity, DatasetError)> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (case, looked) in dataset.cases.iter().zip(looked) {
        if let Some(header) = &looked.header {
            found.entry(header.native.orientation()).or_default().push(&case.id);
        }
    }
    let mut found: Vec<(String, Vec<&str>)> = found.into_iter().collect();
    found.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
    let listed = |(axes, cases): &(String, Vec<&str>)| {
        let more = if cases.len() > 1 { format!(" and {} more", cases.len() - 1) } else { String::new() };
        format!("{axes} ({}{more})", cases[0])
    };
    let problem =
        format!("the files' axes run differently: {}", found.iter().map(listed).collect::<Vec<_>>().join(", "));
    let cure = "all are turned into RAS, which does no harm where headers are right: see that no converter lost left and right";
    (found.len() > 1).then(|| (Severity::Warning, DatasetError::invalid(&dataset.root, "orientation", problem, cure)))
}

/// A spacing far from the others'.
fn spacings(dataset: &Dataset, looked: &mut [Looked]) {
    let spacing = |looked: &Looked| looked.header.as_ref().map(|header| header.geometry.spacing());
    let all: Vec<[f64; 3]> = looked.iter().filter_map(spacing).collect();
    if all.len() < MANY {
        return;
    }
    let median: [f64; 3] = std::array::from_fn(|axis| {
        let mut along: Vec<f64> = all.iter().map(|spacing| spacing[axis]).collect();
        along.sort_by(f64::total_cmp);
        along[along.len() / 2]
    });
    for (case, looked) in dataset.cases.iter().zip(looked) {
        let Some(spacing) = spacing(looked) else { continue };
        let far = |axis: &usize| !(1.0 / FAR..=FAR).contains(&(spacing[*axis] / median[*axis]));
        if let Some(axis) = (0..3).find(far) {
            let (mm, usual, axis) = (spacing[axis], median[axis], ["x", "y", "z"][axis]);
            let problem = format!("voxels {mm:.3} mm apart along {axis}, where the median case has {usual:.3} mm");
            let cure = "look whether the header is right and the case of the same kind as the others";
            let file = case.images.first().unwrap_or(&case.label);
            looked.warnings.push(DatasetError::invalid(file, "pixdim", problem, cure));
        }
    }
}

/// Writes the line that would mend unnamed values into the cures of their faults. A value may be a class that none of the
/// cases with this value has; where there is no such class, it can only be background.
fn offer(dataset: &Dataset, looked: &mut [Looked]) {
    let has = |looked: &Looked, class: usize| looked.classes.as_ref().is_some_and(|counts| counts[class] > 0);
    let mut could_be: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for looked in looked.iter() {
        for value in looked.unnamed.iter().flat_map(|(_, values)| values) {
            let classes = could_be.entry(*value).or_insert_with(|| (1..dataset.classes.len()).collect());
            classes.retain(|class| !has(looked, *class));
        }
    }
    if could_be.is_empty() || could_be.len() > OFFERED {
        return;
    }
    // Where as many classes are missing as there are values, they are these in order.
    let missing: BTreeSet<usize> = could_be.values().flatten().copied().collect();
    let in_order = missing.len() == could_be.len() && could_be.values().all(|classes| classes.len() == missing.len());
    let mut missing = missing.into_iter();
    let to: Vec<(u16, usize)> = could_be
        .iter()
        .map(|(value, classes)| {
            let class = if in_order { missing.next() } else { classes.first().copied() };
            (*value, class.unwrap_or(0))
        })
        .collect();
    let entries = to.iter().map(|(value, class)| format!("{value} = {class}")).collect::<Vec<_>>().join(", ");
    let names = to.iter().map(|(value, class)| format!("{value} is {}", dataset.classes[*class]));
    let names = names.collect::<Vec<_>>().join(" and ");
    for looked in looked {
        let Some((at, _)) = looked.unnamed else { continue };
        if let Some(DatasetError::Invalid { cure, .. }) = looked.faults.get_mut(at) {
            *cure = format!(
                "if {names}, write `remap = {{ {entries} }}` under [data]; else name them under `labels` in dataset.json"
            );
        }
    }
}
