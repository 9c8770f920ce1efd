//! `data.split`: what cases are dealt into folds by.
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `"nnunet"`, `"stratified"`, or the path of a JSON file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitBy {
    /// nnU-Net's shuffled k-fold.
    #[default]
    Nnunet,
    /// Folds in which every class is in equally many cases.
    Stratified,
    /// A `splits_final.json`; the path as written.
    File(String),
}

impl SplitBy {
    /// As it is written.
    pub fn name(&self) -> &str {
        match self {
            Self::Nnunet => "nnunet",
            Self::Stratified => "stratified",
            Self::File(path) => path,
        }
    }
}

impl Serialize for SplitBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for SplitBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "nnunet" => Ok(Self::Nnunet),
            "stratified" => Ok(Self::Stratified),
            path if path.to_ascii_lowercase().ends_with(".json") && !path.contains('\0') => Ok(Self::File(text)),
            _ => Err(D::Error::custom("neither a rule nor a file")),
        }
    }
}
