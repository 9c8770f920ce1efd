//! Whatever is fed in, by hand or by a program that means harm: it is read or refused, in little memory, and nothing else.
//!
//! Files of each kind are taken whole and damaged, byte by byte or number by number. In a normal run every test tries some
//! hundreds to thousands of them; VOXFIT_FUZZ_CASES=N tries N (docs/security.md says what was found so).
mod allocation;
mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod damage;
mod dataset_json;
mod exchange;
mod names;
mod network;
mod plan;
#[allow(dead_code, reason = "made for the tests of volumes too")]
#[path = "../volumes/raw.rs"]
mod raw;
mod report;
mod volume;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;
