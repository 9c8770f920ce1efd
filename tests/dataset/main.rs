//! Datasets: both layouts, what is refused and how, the doctor, the digest, the fingerprint, and a case's preparation.
mod doctor;
mod fingerprint;
mod fixture;
mod layout;
mod prepare;

/// Within `tolerance`, relative above 1 and absolute below.
fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}
