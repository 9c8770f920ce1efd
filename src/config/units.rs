//! Sizes (`512MiB`) and times (`30m`) as people write them.
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units of sizes, largest first.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Bytes, written `512MiB`, `4GiB`, `1.5GiB` or as a whole number of bytes; at least 1, less than 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no size; write it as in 512MiB, 4GiB or a whole number of bytes");
        let trimmed = text.trim();
        let digits = trimmed.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let suffix = &trimmed[digits.len()..];
        let number = digits.trim_end();
        let bytes = if suffix.is_empty() || suffix.eq_ignore_ascii_case("B") {
            number.parse::<u64>().map_err(|_| refused())?
        } else {
            let (name, unit) = UNITS
                .iter()
                .find(|(name, _)| suffix.eq_ignore_ascii_case(name) || suffix.eq_ignore_ascii_case(&name[..1]))
                .ok_or_else(|| match suffix.to_ascii_uppercase().as_str() {
                    "KB" | "MB" | "GB" | "TB" => {
                        format!("`{text}` is no size here; write {number}{}iB", &suffix[..1].to_ascii_uppercase())
                    }
                    _ => refused(),
                })?;
            debug_assert!(name.ends_with("iB"));
            match number.parse::<u64>() {
                Ok(count) => count.checked_mul(*unit).ok_or_else(refused)?,
                Err(_) => {
                    let count = number.parse::<f64>().map_err(|_| refused())?;
                    let bytes = (count * *unit as f64).round();
                    if !(count.is_finite() && (0.0..9.2e18).contains(&bytes)) {
                        return Err(refused());
                    }
                    bytes as u64
                }
            }
        };
        if bytes == 0 || bytes > i64::MAX as u64 { Err(refused()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for ByteSize {
    /// Exact: the largest unit of which it is a whole number, else bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(formatter, "{}{name}", self.0 / unit),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size as in \"512MiB\", \"4GiB\" or a whole number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) if bytes > 0 => Ok(ByteSize(bytes)),
                    _ => Err(E::custom(format!("{bytes} is no size"))),
                }
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                i64::try_from(bytes)
                    .map_err(|_| E::custom(format!("{bytes} is no size")))
                    .and_then(|b| self.visit_i64(b))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// A time written `90s`, `30m`, `2h` or `1h30m`; more than zero, at most 10 000 hours.
///
/// # Errors
/// A sentence that says how to write one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("`{text}` is no time; write it as in 90s, 30m, 2h or 1h30m");
    let mut seconds = 0u64;
    let mut rest = text.trim();
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(refused)?;
        let count = rest[..end].parse::<u64>().map_err(|_| refused())?;
        let unit = match &rest.as_bytes()[end] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(refused()),
        };
        if unit >= last_unit {
            return Err(refused());
        }
        last_unit = unit;
        seconds = count.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(refused)?;
        rest = &rest[end + 1..];
    }
    if seconds == 0 || seconds > 36_000_000 { Err(refused()) } else { Ok(Duration::from_secs(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("4GiB", 4 << 30),
            ("4 gib", 4 << 30),
            ("4G", 4 << 30),
            ("1.5KiB", 1536),
            ("123", 123),
            ("123B", 123),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1GiB",
            "0",
            "0GiB",
            "1e400GiB",
            "nanGiB",
            "99999999999TiB",
            "4XiB",
            "é",
            "9223372036854775808",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert!("4GB".parse::<ByteSize>().unwrap_err().contains("write 4GiB"));
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h0m1s", 3601)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "90", "0s", "m", "1x", "30m1h", "1h1h", "-5m", "1.5h", "99999999999999999999h", "5é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
