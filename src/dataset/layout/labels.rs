//! The classes: `{"0": "background", "1": "liver"}` (MSD) or `{"background": 0, "liver": 1}` (nnU-Net), which may also name
//! [regions](super::regions).
use serde_json::{Map, Value};

use super::{Folder, regions};
use crate::dataset::{Region, Remap};

/// What a description says of label values.
pub(super) struct Classes {
    /// Names by value.
    pub names: Vec<String>,
    /// The value to be ignored.
    pub ignore: Option<u16>,
    pub regions: Vec<Region>,
}

/// MSD's direction: numbers as keys, names as values.
pub(super) fn is_by_value(labels: &Value) -> bool {
    labels.as_object().is_some_and(|labels| {
        !labels.is_empty() && labels.iter().all(|(key, value)| number(key).is_some() && value.is_string())
    })
}

fn number(text: &str) -> Option<u16> {
    text.trim().parse().ok()
}

/// The classes of `description`; `None`, with the fault in `folder`, where they cannot be used. `order` has the names under
/// `labels` as they were written.
pub(super) fn read(
    folder: &mut Folder<'_>,
    description: &Map<String, Value>,
    order: &[String],
    remap: &Remap,
) -> Option<Classes> {
    const CURE: &str = "write it as {\"0\": \"background\", \"1\": \"liver\"} or as {\"background\": 0, \"liver\": 1}";
    let Some(Value::Object(labels)) = description.get("labels") else {
        let problem = if description.contains_key("labels") { "is no table" } else { "is missing" };
        folder.fault("labels", problem, CURE);
        return None;
    };
    if labels.values().any(Value::is_array) {
        return regions::read(folder, description, labels, order, remap);
    }
    let by_value = description.get("labels").is_some_and(is_by_value);
    let mut named: Vec<(u16, &str)> = Vec::with_capacity(labels.len());
    for (key, value) in labels {
        let entry = if by_value {
            number(key).zip(value.as_str())
        } else {
            let value = value.as_u64().and_then(|value| u16::try_from(value).ok());
            value.or_else(|| labels[key].as_str().and_then(number)).map(|value| (value, key.as_str()))
        };
        let Some(entry) = entry else {
            folder.fault(format!("labels.{key}"), format!("{value} is no label from 0 to 65535"), CURE);
            return None;
        };
        if super::too_long(folder, "labels", entry.1) {
            return None;
        }
        named.push(entry);
    }
    named.sort_unstable();
    let mut by_name = named.clone();
    by_name.sort_unstable_by_key(|&(_, name)| name);
    let twice = named.windows(2).find(|pair| pair[0].0 == pair[1].0);
    if let Some(&[(a, first), (b, second)]) = twice.or_else(|| by_name.windows(2).find(|pair| pair[0].1 == pair[1].1)) {
        folder.fault(
            "labels",
            format!("{first:?} = {a} and {second:?} = {b} are not two classes"),
            "give every class its own name and its own value",
        );
        return None;
    }
    let exchanged = remap.classes(&named);
    let mut named: Vec<(u16, &str)> = exchanged.iter().map(|(value, name)| (*value, name.as_str())).collect();
    if let Some((from, to)) = remap.astray(&named.iter().map(|(value, _)| *value).collect()) {
        let classes = named.iter().map(|(value, name)| format!("{value} {name:?}")).collect::<Vec<_>>().join(", ");
        folder.fault(
            "labels",
            format!("data.remap makes {from} {to}, which is no class once values are exchanged: {classes}"),
            "name the values under `labels` as the label maps hold them, and exchange them for classes",
        );
        return None;
    }
    let ignore = take_ignore(folder, &mut named)?;
    consecutive(folder, &named)?;
    Some(Classes { names: named.into_iter().map(|(_, name)| name.to_string()).collect(), ignore, regions: Vec::new() })
}

/// Takes the ignore label out of `named`; it must have the highest value. The outer `None` is a fault.
fn take_ignore(folder: &mut Folder<'_>, named: &mut Vec<(u16, &str)>) -> Option<Option<u16>> {
    let Some(at) = named.iter().position(|(_, name)| name.eq_ignore_ascii_case("ignore")) else {
        return Some(None);
    };
    if at + 1 < named.len() {
        let problem = format!("is {} but the highest label is {}", named[at].0, named[named.len() - 1].0);
        folder.fault("labels.ignore", problem, "give the ignore label the highest value");
        return None;
    }
    Some(named.pop().map(|(value, _)| value))
}

/// The values must be 0, 1, 2, ...; `named` is in their order.
fn consecutive(folder: &mut Folder<'_>, named: &[(u16, &str)]) -> Option<()> {
    let values = || named.iter().map(|(value, _)| *value);
    let listed = |items: Vec<String>| {
        let more = items.len().saturating_sub(12);
        let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
        items.into_iter().take(12).collect::<Vec<_>>().join(", ") + &rest
    };
    if values().eq(1..=named.len().min(usize::from(u16::MAX)) as u16) {
        folder.fault("labels", "value 0 has no name", "add the background as label 0");
        return None;
    }
    if !values().enumerate().all(|(index, value)| index == usize::from(value)) {
        let moved = named.iter().enumerate().filter(|(index, (value, _))| usize::from(*value) != *index);
        let remap = moved.map(|(index, (value, _))| format!("{value} = {index}")).collect();
        let names = named.iter().enumerate().map(|(index, (_, name))| format!("{index} = {name:?}")).collect();
        folder.fault(
            "labels",
            format!("{} are not consecutive from 0", listed(values().map(|value| value.to_string()).collect())),
            format!("write `remap = {{ {} }}` under [data], for the classes {}", listed(remap), listed(names)),
        );
        return None;
    }
    if named.len() < 2 {
        folder.fault("labels", "name no class besides the background", "add the classes that the label maps hold");
        return None;
    }
    Some(())
}
