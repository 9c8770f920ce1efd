//! `dataset.json` as nnU-Net 2.8.1 reads it.
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use super::plans::written_by;
use crate::train::LoadedRun;

/// `dataset.json`; nnU-Net takes regions in the order in which they are written.
#[derive(Serialize)]
pub struct DatasetFile {
    #[serde(rename = "written_by")]
    mark: String,
    channel_names: InOrder,
    labels: InOrder,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions_class_order: Option<Vec<u16>>,
    #[serde(rename = "numTraining")]
    training: usize,
    file_ending: &'static str,
}

/// A table in the order of its entries, which `serde_json::Map` does not keep.
struct InOrder(Vec<(String, Value)>);

impl Serialize for InOrder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl DatasetFile {
    pub fn of(plan: &LoadedRun) -> Self {
        let channels = plan.channels.iter().enumerate().map(|(at, name)| (at.to_string(), json!(name))).collect();
        let mut labels = InOrder(vec![("background".to_owned(), json!(0))]);
        if plan.regions.is_empty() {
            for (value, class) in plan.classes.iter().enumerate().skip(1) {
                labels.add(class, json!(value));
            }
        } else {
            for region in &plan.regions {
                labels.add(&region.name, json!(region.values));
            }
        }
        if let Some(ignore) = plan.ignore {
            labels.0.push(("ignore".to_owned(), json!(ignore)));
        }
        Self {
            mark: written_by(),
            channel_names: InOrder(channels),
            labels,
            regions_class_order: plan.paint(),
            training: 0,
            file_ending: ".nii.gz",
        }
    }
}

impl InOrder {
    /// Adds a class under its name, or one like it where another has it or nnU-Net means something by it.
    fn add(&mut self, name: &str, value: Value) {
        let taken = |name: &str| name == "ignore" || self.0.iter().any(|(other, _)| other == name);
        let name = (1..)
            .map(|number| if number == 1 { name.to_owned() } else { format!("{name}_{number}") })
            .find(|name| !taken(name))
            .unwrap_or_default();
        self.0.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_keep_their_order_and_get_names_of_their_own() {
        let mut labels = InOrder(vec![("background".into(), json!(0))]);
        for (value, name) in ["z", "background", "ignore", "a", "z"].into_iter().enumerate() {
            labels.add(name, json!(value + 1));
        }
        let text = serde_json::to_string(&labels).unwrap();
        assert_eq!(text, r#"{"background":0,"z":1,"background_2":2,"ignore_2":3,"a":4,"z_2":5}"#);
    }
}
