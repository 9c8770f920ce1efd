//! Values of label maps exchanged as they are read: `{255 = 1}`.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use ndarray::Array3;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How what is written wrongly should be.
const EXPECTED: &str = "label values from 0 to 65535, as in { 255 = 1 }";

/// From values in the files to values that are trained on. What is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remap(BTreeMap<u16, u16>);

impl Remap {
    /// Whether every value stays.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `value` of a file becomes.
    pub fn of(&self, value: u16) -> u16 {
        self.0.get(&value).copied().unwrap_or(value)
    }

    /// Exchanges every voxel of a label map, once: what became 1 does not become what 1 becomes.
    pub fn apply(&self, labels: &mut Array3<u16>) {
        if self.is_empty() {
            return;
        }
        let table: Vec<u16> = (0..=u16::MAX).map(|value| self.of(value)).collect();
        labels.mapv_inplace(|value| table[usize::from(value)]);
    }

    /// Names by value, after the exchange, in order. Names of values that become one are joined; but the background keeps
    /// its own, and what becomes the ignore label is ignored.
    pub fn classes(&self, named: &[(u16, &str)]) -> Vec<(u16, String)> {
        let mut all: BTreeMap<u16, Vec<(u16, &str)>> = BTreeMap::new();
        named.iter().for_each(|&(value, name)| all.entry(self.of(value)).or_default().push((value, name)));
        let join = |(value, mut names): (u16, Vec<(u16, &str)>)| {
            names.sort_unstable();
            let own =
                names.iter().find(|(from, name)| name.eq_ignore_ascii_case("ignore") || (value == 0 && *from == 0));
            let joined = || names.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" + ");
            (value, own.map_or_else(joined, |(_, name)| (*name).to_owned()))
        };
        all.into_iter().map(join).collect()
    }

    /// The first exchange whose target is none of `values`.
    pub(super) fn astray(&self, values: &BTreeSet<u16>) -> Option<(u16, u16)> {
        self.0.iter().find(|(_, to)| !values.contains(to)).map(|(from, to)| (*from, *to))
    }

    /// These exchanges and `other`'s, which count where both name a value.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// `255=1,2=0`
impl FromStr for Remap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no exchange of labels; write it as in 255=1 or 2=1,5=2");
        let mut remap = BTreeMap::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('=').ok_or_else(refused)?;
            let [from, to] = [from, to].map(|value| value.trim().parse::<u16>());
            if remap.insert(from.map_err(|_| refused())?, to.map_err(|_| refused())?).is_some() {
                return Err(format!("`{text}` names a value twice; write it as in 255=1 or 2=1,5=2"));
            }
        }
        Ok(Self(remap))
    }
}

impl fmt::Display for Remap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.0.iter().map(|(from, to)| format!("{from}={to}")).collect();
        formatter.write_str(&entries.join(","))
    }
}

impl Serialize for Remap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(from, to)| (from.to_string(), to)))
    }
}

impl<'de> Deserialize<'de> for Remap {
    /// Keys of TOML and of JSON are text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, i64>::deserialize(deserializer)?;
        let entry = |(from, to): (String, i64)| Some((from.trim().parse::<u16>().ok()?, u16::try_from(to).ok()?));
        let remap: Option<Vec<(u16, u16)>> = written.into_iter().map(entry).collect();
        let remap = remap.ok_or_else(|| D::Error::custom(format!("expected {EXPECTED}")))?;
        let count = remap.len();
        let remap = Self(remap.into_iter().collect());
        // "1" and "01" are one value.
        if remap.0.len() == count {
            Ok(remap)
        } else {
            Err(D::Error::custom(format!("expected {EXPECTED}, each once")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Remap;
    use ndarray::Array3;

    #[test]
    fn values_are_exchanged_once() {
        let remap: Remap = "1=2, 2=1,255=0,65535=7".parse().unwrap();
        let mut labels = Array3::from_shape_vec((1, 1, 7), vec![0, 1, 2, 3, 255, 256, 65535]).unwrap();
        remap.apply(&mut labels);
        assert_eq!(labels.into_raw_vec_and_offset().0, [0, 2, 1, 3, 0, 256, 7]);
        assert_eq!(remap.to_string(), "1=2,2=1,255=0,65535=7");
        for wrong in ["", "1", "1=", "=1", "1=-1", "1=65536", "a=1", "1=1,", "1=1,1=2", "1=1.5"] {
            assert!(wrong.parse::<Remap>().unwrap_err().contains("255=1"), "{wrong}");
        }
    }

    #[test]
    fn it_is_written_and_read() {
        let remap: Remap = "2=1,5=2".parse().unwrap();
        let text = toml::to_string(&remap).unwrap();
        assert_eq!(text, "2 = 1\n5 = 2\n");
        assert_eq!(toml::from_str::<Remap>(&text).unwrap(), remap);
        assert_eq!(toml::from_str::<Remap>("\"2\" = 1\n'5' = 2").unwrap(), remap);
        for wrong in ["x = 1", "1 = -1", "1 = 65536", "1 = \"1\"", "1 = 1\n01 = 2", "70000 = 1", "1 = {}"] {
            assert!(toml::from_str::<Remap>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_follow_the_values() {
        let classes = |remap: &str, named: &[(u16, &str)]| {
            let found = remap.parse::<Remap>().unwrap().classes(named);
            found.into_iter().map(|(value, name)| format!("{value} {name}")).collect::<Vec<_>>().join(", ")
        };
        let three = [(0, "background"), (2, "liver"), (5, "tumour")];
        assert_eq!(classes("2=1,5=2", &three), "0 background, 1 liver, 2 tumour");
        assert_eq!(classes("5=1,2=2", &three), "0 background, 1 tumour, 2 liver");
        assert_eq!(classes("2=1,5=1", &three), "0 background, 1 liver + tumour");
        assert_eq!(classes("2=1,5=0", &three), "0 background, 1 liver");
        assert_eq!(
            classes("2=1,5=9", &[three[0], three[1], three[2], (9, "ignore")]),
            "0 background, 1 liver, 9 ignore"
        );
    }
}
