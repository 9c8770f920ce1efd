//! A plan for programs. Triples are x, y, z; sizes in bytes.
use serde_json::{Map, Value, json};
use voxfit::train::Plan;
use voxfit::xyz;

pub fn page(plan: &Plan) -> Value {
    let (resolved, fit) = (&plan.planned.resolved, &plan.planned.fit);
    let experiment = &resolved.experiment;
    let mut size = resolved.patch;
    let stages = resolved.plan.stages.iter().map(|stage| {
        size = std::array::from_fn(|axis| size[axis].div_ceil(stage.stride[axis]));
        json!({ "size": xyz(size), "features": stage.features, "kernel": xyz(stage.kernel), "stride": xyz(stage.stride) })
    });
    let stages: Vec<Value> = stages.collect();
    let mut parts = Map::new();
    parts.insert("program".into(), json!(fit.around()));
    parts.insert("weights".into(), json!(fit.step.weights));
    for (part, bytes) in fit.step.parts {
        parts.insert(
            serde_json::to_value(part).ok().and_then(|name| name.as_str().map(Into::into)).unwrap_or_default(),
            json!(bytes),
        );
    }
    parts.insert("free_between".into(), json!(fit.step.between()));
    let changed = plan.planned.changed.as_ref().map(|changed| {
        json!({ "patch": changed.patch.map(xyz), "features": changed.features, "needed_bytes": changed.needed })
    });
    let probe = plan.probed.as_ref().map(|probed| {
        json!({ "predicted_bytes": probed.predicted, "measured_bytes": probed.measured.peak_bytes,
            "seconds_per_step": probed.measured.seconds, "corrected": probed.corrected })
    });
    let low = plan.beside.as_ref().map(|low| {
        json!({ "spacing_mm": xyz(low.spacing), "median_voxels": xyz(low.median), "patch": xyz(low.topology.patch) })
    });
    json!({
        "dataset": plan.dataset.name,
        "cases": plan.dataset.cases.len(),
        "channels": plan.dataset.channels.len(),
        "classes": plan.dataset.classes.len(),
        "spacing_mm": resolved.preparation.spacing,
        "median_voxels": plan.median,
        "patch": xyz(resolved.patch),
        "patch_share_of_median": plan.coverage,
        "low_resolution": low,
        "stages": stages,
        "parameters": fit.step.weights / 4,
        "norm": resolved.norm,
        "activations": resolved.activations,
        "effective_batch": experiment.batch.effective,
        "micro_batch": resolved.micro,
        "micro_batches": experiment.batch.effective.div_ceil(resolved.micro.max(1)),
        "recompute": resolved.recompute(),
        "budget_bytes": plan.room.budget,
        "predicted_peak_bytes": fit.peak(),
        "peak_at": fit.step.place,
        "parts_bytes": parts,
        "flop_per_step": plan.speed.flop,
        "flop_per_second": plan.speed.flop_per_second,
        "seconds_per_step": seconds(plan),
        "seconds_per_run": seconds(plan) * experiment.train.steps as f64,
        "changed": changed,
        "probe": probe,
    })
}

/// Of a step: measured where a step was run.
pub fn seconds(plan: &Plan) -> f64 {
    plan.probed.as_ref().filter(|probed| !probed.corrected).map_or(plan.speed.seconds, |probed| probed.measured.seconds)
}
