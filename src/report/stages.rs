//! The network as a table: what a patch becomes on its way down, and what each stage is made of.
use super::html::table;
use super::words::{short, times};
use crate::network::plan::Norm;
use crate::train::LoadedRun;
use crate::xyz;

/// The section's content.
pub fn section(plan: &LoadedRun) -> String {
    let (mut voxels, mut spacing) = (plan.patch, crate::zyx(plan.preparation.spacing));
    let rows = plan.network.stages.iter().enumerate().map(|(number, stage)| {
        for axis in 0..3 {
            voxels[axis] = voxels[axis].div_ceil(stage.stride[axis].max(1));
            spacing[axis] *= stage.stride[axis] as f64;
        }
        let norm = match stage.norm {
            Norm::Batch => "batch".to_owned(),
            Norm::Instance => "instance".to_owned(),
            Norm::Group { groups } => format!("group, {groups}"),
        };
        vec![
            (number + 1).to_string(),
            times(xyz(voxels)),
            times(xyz(spacing).map(short)),
            stage.features.to_string(),
            times(xyz(stage.stride)),
            times(xyz(stage.kernel)),
            norm,
            plan.network.kind.blocks(number).to_string(),
        ]
    });
    let header = ["stage", "voxels of a patch", "mm", "channels", "stride", "kernel", "norm", "residual blocks"];
    let mut rows: Vec<Vec<String>> = rows.collect();
    // Of the plain network there is none in any stage.
    let columns = if rows.iter().all(|row| row[7] == "0") { 7 } else { 8 };
    rows.iter_mut().for_each(|row| row.truncate(columns));
    format!(
        "{}<p class=\"soft\">x, y, z. On the way up the same stages come in reverse, each with what the way down had there \
         beside it.</p>\n",
        table(&header[..columns], 1, rows.into_iter())
    )
}
