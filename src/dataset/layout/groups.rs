//! voxfit's own key: `"groups": {"case": "patient"}`, which cases are of one patient.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Folder, MAX_NAME};

/// The patient by case; what is no such table is a fault in `folder`. Cases may be missing and others be named: the doctor
/// says so.
pub(super) fn read(folder: &mut Folder<'_>, description: &Map<String, Value>) -> BTreeMap<String, String> {
    const CURE: &str = "write it as {\"case_1\": \"patient_1\", \"case_2\": \"patient_1\"}";
    let Some(groups) = description.get("groups").filter(|groups| !groups.is_null()) else { return BTreeMap::new() };
    let Value::Object(groups) = groups else {
        folder.fault("groups", "is no table", CURE);
        return BTreeMap::new();
    };
    let mut read = BTreeMap::new();
    for (case, patient) in groups {
        let named = match patient {
            Value::String(name) => Some(name.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match named.filter(|name| !name.is_empty() && name.chars().count() <= MAX_NAME) {
            Some(name) => drop(read.insert(case.clone(), name)),
            None => {
                let problem = format!("is no name of a patient of up to {MAX_NAME} characters");
                folder.fault(format!("groups.{case}"), problem, CURE);
                return BTreeMap::new();
            }
        }
    }
    read
}
