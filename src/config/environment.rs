//! `${NAME}` in paths.
use std::path::Path;

use super::ConfigError;
use crate::shown;

/// Where the volumes of a variable that voxfit's own configurations use come from.
const KNOWN: [(&str, &str); 1] = [(
    "VOXFIT_VOLUMES",
    "the volumes come from the Medical Segmentation Decathlon (medicaldecathlon.com, Task04_Hippocampus) or are your \
     own; set VOXFIT_VOLUMES to the folder that holds them, as in VOXFIT_VOLUMES=/data/msd for \
     /data/msd/Task04_Hippocampus, or pass --data DIR",
)];

/// Bytes of a path, more than any system takes: a short text may name a long variable often.
const MAX_PATH: usize = 32 << 10;

/// `text` with every `${NAME}` replaced by what `variable` gives for it; a `$` without `{` stays.
///
/// # Errors
/// A name that is not set, empty or not closed by `}`, a path that becomes too long; says what to do.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        expanded.push_str(&rest[..start]);
        let (name, after) = rest[start + 2..].split_once('}').ok_or_else(|| ConfigError::Environment {
            text: shortened(text),
            problem: "`${` has no `}`".into(),
            cure: "close it, or pass --data DIR".into(),
        })?;
        let value = variable(name).filter(|value| !value.is_empty()).ok_or_else(|| ConfigError::Environment {
            text: shortened(text),
            problem: format!("the environment variable {} is not set", shortened(name)),
            cure: KNOWN.iter().find(|(known, _)| *known == name).map_or_else(
                || format!("set {} or pass --data DIR with the dataset's folder", shortened(name)),
                |(_, cure)| (*cure).to_owned(),
            ),
        })?;
        if expanded.len() + value.len() + after.len() > MAX_PATH {
            return Err(ConfigError::Environment {
                text: shortened(text),
                problem: "the path becomes longer than any path may be".into(),
                cure: "write it shorter, or pass --data DIR".into(),
            });
        }
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// A path with its variables put in; refuses what was meant as a Windows path and is none, with problem and cure.
///
/// # Errors
/// A control character, as the tab that TOML makes of `"C:\temp"`; on other systems than Windows a path of Windows.
pub(super) fn checked(path: &str) -> Result<&Path, (&'static str, &'static str)> {
    if path.contains(|character: char| character.is_control()) {
        return Err((
            "a line break, a tab or the like is no part of a path; in double quotes TOML makes one of a `\\` and a letter",
            "write a path with backslashes in single quotes, as in dataset = 'C:\\data\\set'",
        ));
    }
    if cfg!(not(windows)) && is_of_windows(path) {
        return Err(("a path of Windows, and this is another system", "write where it is here"));
    }
    Ok(Path::new(path))
}

/// `C:\...`, `C:/...` or `\\server\share`.
fn is_of_windows(path: &str) -> bool {
    let drive = |bytes: &[u8]| matches!(bytes, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    drive(path.as_bytes()) || path.starts_with(r"\\")
}

fn shortened(text: &str) -> String {
    shown::line(&shown::short(text, 80))
}

#[cfg(test)]
mod tests {
    use super::{checked, expand, is_of_windows};

    #[test]
    fn a_path_of_windows_is_known_by_its_look() {
        for path in [r"C:\data", "D:/data", r"\\server\share\data"] {
            assert!(is_of_windows(path), "{path}");
            let taken = checked(path);
            assert_eq!(taken.is_ok(), cfg!(windows), "{path}");
        }
        for path in ["data", "/data", "../a b/ü", "a:b/c", "C:", r"a\b"] {
            assert!(!is_of_windows(path), "{path}");
            assert_eq!(checked(path), Ok(std::path::Path::new(path)));
        }
        // What TOML makes of "C:\temp".
        assert!(checked("C:\temp").unwrap_err().1.contains("single quotes"));
    }

    #[test]
    fn names_are_replaced_or_refused() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        assert_eq!(expand("${HOME}/a/${HOME}$", variable).unwrap(), "/home/me/a//home/me$");
        assert_eq!(expand("$HOME/a", variable).unwrap(), "$HOME/a");
        assert!(expand(&"${HOME}".repeat(5000), variable).unwrap_err().to_string().contains("longer than any path"));
        for (text, part) in [
            ("${VOXFIT_VOLUMES}/x", "medicaldecathlon.com"),
            ("${OTHER}/x", "set OTHER or pass --data DIR"),
            ("${EMPTY}", "EMPTY is not set"),
            ("${HOME", "has no `}`"),
        ] {
            let message = expand(text, variable).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
