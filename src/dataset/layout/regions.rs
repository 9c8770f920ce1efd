//! Regions in nnU-Net's `dataset.json`: `"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}` and
//! `"regions_class_order": [1, 2]`, one value to paint for each region in the order of `labels`.
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::labels::Classes;
use super::{Folder, too_long};
use crate::dataset::{Region, Remap};

const ORDER: &str = "regions_class_order";

/// The names under `labels` as they were written, which a JSON tree does not keep; none where there are none.
pub(super) fn names_in_order(text: &[u8]) -> Vec<String> {
    serde_json::from_slice::<Description>(text).map(|description| description.labels.0).unwrap_or_default()
}

#[derive(Deserialize)]
struct Description {
    labels: Names,
}

struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The classes of a description of which at least one is a list; `None`, with the fault in `folder`, where they cannot be
/// used.
pub(super) fn read(
    folder: &mut Folder<'_>,
    description: &Map<String, Value>,
    labels: &Map<String, Value>,
    order: &[String],
    remap: &Remap,
) -> Option<Classes> {
    let (mut regions, mut ignore) = (Vec::new(), None);
    for name in order {
        if too_long(folder, "labels", name) {
            return None;
        }
        let Some(values) = labels.get(name).and_then(|value| values(value, remap)) else {
            let cure = "write a label value or a list of them, as in [1, 2, 3]";
            folder.fault(format!("labels.{name}"), "is neither a label nor a list of labels from 0 to 65535", cure);
            return None;
        };
        if regions.iter().any(|region: &Region| region.name == *name) {
            folder.fault(format!("labels.{name}"), "is there twice", "give every region its own name");
            return None;
        }
        match values[..] {
            [value] if name.eq_ignore_ascii_case("ignore") => ignore = Some(value),
            [0] => {}
            [0, ..] => {
                folder.fault(format!("labels.{name}"), "holds the background", "take the 0 out of the list");
                return None;
            }
            _ => regions.push(Region { name: name.clone(), values, paint: 0 }),
        }
    }
    if regions.is_empty() {
        folder.fault("labels", "name no class besides the background", "add the classes that the label maps hold");
        return None;
    }
    paint(folder, description, &mut regions, remap)?;
    let highest = regions.iter().flat_map(|region| &region.values).copied().max().unwrap_or(0);
    let named = |value: u16| regions.iter().any(|region| region.holds(value));
    if let Some(gap) = (1..highest).find(|value| !named(*value)) {
        let problem = format!("no region holds {gap}, but one holds {highest}");
        folder.fault("labels", problem, "number the label values from 1 without a gap, or add a region of the value");
        return None;
    }
    if let Some(value) = ignore.filter(|&value| Some(value) != highest.checked_add(1)) {
        let cure = "give the ignore label the value above the highest of all regions";
        folder.fault("labels.ignore", format!("is {value} but the highest label is {highest}"), cure);
        return None;
    }
    let alone = |value: u16| regions.iter().find(|region| region.values == [value]);
    let name = |value: u16| alone(value).map_or_else(|| format!("label {value}"), |region| region.name.clone());
    let names = std::iter::once("background".to_owned()).chain((1..=highest).map(name)).collect();
    Some(Classes { names, ignore, regions })
}

/// What the values become as they are read, ascending, each once; not empty.
fn values(value: &Value, remap: &Remap) -> Option<Vec<u16>> {
    let number = |value: &Value| value.as_u64().and_then(|value| u16::try_from(value).ok());
    let mut values = match value {
        Value::Array(values) => values.iter().map(number).collect::<Option<Vec<u16>>>()?,
        value => vec![number(value)?],
    };
    values.iter_mut().for_each(|value| *value = remap.of(*value));
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then_some(values)
}

/// Gives each region its value of [`ORDER`].
fn paint(
    folder: &mut Folder<'_>,
    description: &Map<String, Value>,
    regions: &mut [Region],
    remap: &Remap,
) -> Option<()> {
    let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
    let Some(order) = description.get(ORDER).and_then(Value::as_array) else {
        let problem = if description.contains_key(ORDER) { "is no list" } else { "is missing" };
        let cure = format!("list the label value to write for each of {names:?}, larger regions first");
        folder.fault(ORDER, problem, cure);
        return None;
    };
    if order.len() != regions.len() {
        let cure = format!("give one label value for each of {names:?}");
        folder.fault(ORDER, format!("has {} entries for {} regions", order.len(), regions.len()), cure);
        return None;
    }
    for (region, value) in regions.iter_mut().zip(order) {
        let painted = value.as_u64().and_then(|value| u16::try_from(value).ok()).map(|value| remap.of(value));
        match painted.filter(|value| region.holds(*value)) {
            Some(value) => region.paint = value,
            None => {
                let problem = format!("{value} is no label of region {:?}", region.name);
                folder.fault(ORDER, problem, format!("write one of {:?} in its place", region.values));
                return None;
            }
        }
    }
    Some(())
}
