//! Volumes as a person has them: files of every kind read, written back on their own grid, or refused by name.
#[path = "volumes/bad_files.rs"]
mod bad_files;
#[path = "volumes/nibabel.rs"]
mod nibabel;
#[path = "volumes/raw.rs"]
mod raw;
#[path = "volumes/real.rs"]
mod real;
#[path = "volumes/round_trip.rs"]
mod round_trip;
