//! The tables of docs/configuration.md.
use super::table::KEYS;
use crate::config::Experiment;

/// The tables of `[augment]` in their order, with what they do; Markdown.
const AUGMENT: &[(&str, &str)] = &[
    ("augment", "`enabled = false` switches all off"),
    (
        "augment.spatial.rotation",
        "about each axis; a patch more than three times as long as thin is turned about its thin axis alone, by `in_plane_degrees`",
    ),
    ("augment.spatial.scale", "of the field of view: above 1 structures become smaller"),
    ("augment.noise", "Gaussian, in units of the normalised image"),
    ("augment.blur", "Gaussian, voxels, drawn per axis"),
    ("augment.brightness", "times a factor, per channel"),
    ("augment.contrast", "distance from the mean times a factor, within the old range"),
    ("augment.low_resolution", "sampled down and up again"),
    ("augment.gamma_inverted", "gamma of the negative image, keeping mean and deviation"),
    ("augment.gamma", "gamma, keeping mean and deviation"),
    (
        "augment.mirror",
        "per axis. **Leave out `\"x\"` where left and right are different classes**; in a short training `[\"x\"]` alone may teach more",
    ),
];

/// The keys of these tables: the last part of the name, or a whole name where it means something else there.
const LEAVES: &[(&str, &str)] = &[
    ("augment.mirror.probability", "how often along each axis, 0 to 1"),
    ("probability", "how often it is done to a sample, 0 to 1"),
    ("channel_probability", "how often to each channel of such a sample, 0 to 1"),
    ("degrees", "smallest and largest angle"),
    ("in_plane_degrees", "the same for the thin axis of a patch more than three times as long as thin"),
    ("sigma", "smallest and largest standard deviation"),
    ("factor", "smallest and largest factor"),
    ("scale", "smallest and largest share of the voxels along an edge that is left"),
    ("gamma", "smallest and largest exponent"),
    ("axes", "axes that may be mirrored; leave out x where left and right are different classes"),
    ("enabled", "false switches all transforms off"),
    ("augment.spatial", "rotation and scaling, in one resampling"),
];

/// What a table or a key of `[augment]` does, by its whole name; plain text.
pub(super) fn of_transform(path: &str) -> Option<String> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let found = |table: &[(&str, &str)], name: &str| table.iter().find(|(n, _)| *n == name).map(|(_, m)| plain(m));
    found(AUGMENT, path).or_else(|| found(LEAVES, path)).or_else(|| found(LEAVES, last))
}

/// Every value of the file that is not given.
pub(super) fn defaults() -> toml::Table {
    toml::Table::try_from(Experiment::default()).unwrap_or_default()
}

/// The table of one section, as in `train`, in Markdown; of `augment` one row for each transform.
pub fn reference(section: &str) -> String {
    let written = defaults();
    if section == "augment" {
        return of_augment(&written);
    }
    let mut text = "| key | default | meaning | result |\n|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let Some(name) = key.name.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let default = written.get(section).and_then(|keys| keys.get(name)).map_or("{}".to_owned(), shown);
        text += &format!("| `{name}` | `{default}` | {} | {} |\n", key.meaning, key.result);
    }
    text
}

fn of_augment(written: &toml::Table) -> String {
    let mut text = "| table | keys and defaults | meaning |\n|---|---|---|\n".to_owned();
    for (path, meaning) in AUGMENT {
        let mut parts = path.split('.');
        let first = parts.next().and_then(|part| written.get(part));
        let table = parts.fold(first, |table, part| table?.get(part)).and_then(toml::Value::as_table);
        // `probability` first, as people look for it.
        let mut keys: Vec<_> = table.into_iter().flatten().filter(|(_, value)| !value.is_table()).collect();
        keys.sort_by_key(|(name, _)| *name != "probability");
        let keys: Vec<String> = keys.iter().map(|(name, value)| format!("`{name} = {}`", shown(value))).collect();
        text += &format!("| `{path}` | {} | {meaning} |\n", keys.join(", "));
    }
    text
}

/// As a person writes it: 0.00003 and not 3e-5, 1 and not 1.0.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Markdown without its marks: `[text](link)` is text.
pub(super) fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').unwrap_or((before, ""));
        text.extend([before, label]);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text += rest;
    text.replace('`', "").replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_what_they_mark_stays() {
        let marked = "one `[x, y, z]`, **never** two ([how](a.md#b)); see [c](d)";
        assert_eq!(plain(marked), "one [x, y, z], never two (how); see c");
    }

    #[test]
    fn every_transform_has_its_row() {
        let table = reference("augment");
        let written = defaults();
        let mut names: Vec<String> = Vec::new();
        for (name, value) in written["augment"].as_table().unwrap() {
            match value.as_table() {
                Some(table) if table.values().all(toml::Value::is_table) => {
                    names.extend(table.keys().map(|inner| format!("{name}.{inner}")));
                }
                Some(_) => names.push(name.clone()),
                None => {}
            }
        }
        assert!(names.len() > 8);
        for name in names {
            assert!(table.contains(&format!("| `augment.{name}` | `probability = ")), "{name}:\n{table}");
        }
    }
}
