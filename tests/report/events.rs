//! Event files, read by the format's description and not by what wrote them.
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::Lab;
use crate::stopped;

/// CRC-32C by table, as Intel's and TensorFlow's portable versions do it.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }))
        .collect();
    !bytes.iter().fold(!0u32, |crc, byte| table[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// Fields of a message: number and bytes; numbers as eight of them.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for place in 0.. {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, message[..length].to_vec()));
        message = &message[length..];
    }
    found
}

struct Event {
    step: u64,
    scalars: Vec<(String, f32)>,
    starts: bool,
    version: Option<String>,
}

fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let crc = |at: usize| unmasked(u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()));
        let content = &rest[12..12 + length];
        assert_eq!((crc(8), crc(12 + length)), (crc32c(&rest[..8]), crc32c(content)));
        let mut event = Event { step: 0, scalars: Vec::new(), starts: false, version: None };
        for (number, value) in fields(content) {
            match number {
                1 => assert!(f64::from_le_bytes(value[..].try_into().unwrap()) > 1.6e9, "a time"),
                2 => event.step = u64::from_le_bytes(value[..].try_into().unwrap()),
                3 => event.version = Some(String::from_utf8(value).unwrap()),
                5 => {
                    for (number, value) in fields(&value) {
                        assert_eq!(number, 1);
                        let value = fields(&value);
                        assert_eq!((value[0].0, value[1].0), (1, 2));
                        let number = f32::from_le_bytes(value[1].1[..].try_into().unwrap());
                        event.scalars.push((String::from_utf8(value[0].1.clone()).unwrap(), number));
                    }
                }
                7 => event.starts = fields(&value) == [(1, 1u64.to_le_bytes().to_vec())],
                other => panic!("field {other}"),
            }
        }
        found.push(event);
        rest = &rest[16 + length..];
    }
    found
}

fn files(lab: &Lab, run: &str) -> Vec<PathBuf> {
    let folder = lab.path(run).join("tensorboard");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn scalars_are_those_of_the_metrics() {
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "without"]);
    assert!(!lab.path("without/tensorboard").exists());
    lab.done(&["train", "c.toml", "--run", "r", "--tensorboard"]);
    let files = files(&lab, "r");
    assert_eq!(files.len(), 1);
    assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    let events = events(&files[0]);
    assert_eq!(events[0].version.as_deref(), Some("brain.Event:2"));
    let mut found: Vec<(u64, String, f32)> = Vec::new();
    for event in &events {
        found.extend(event.scalars.iter().map(|(tag, value)| (event.step, tag.clone(), *value)));
    }
    let mut expected = Vec::new();
    for line in lab.metrics("r") {
        let step = line["step"].as_u64().unwrap();
        let mut add = |tag: &str, value: &serde_json::Value| {
            expected.extend(value.as_f64().map(|value| (step, tag.to_owned(), value as f32)));
        };
        add("loss", &line["loss"]);
        add("learning_rate", &line["learning_rate"]);
        add("seconds_per_step", &line["seconds"]);
        add("peak_bytes", &line["peak_bytes"]);
        for class in line["dice"].as_array().into_iter().flatten() {
            let name = format!("dice/{} {}", class["class"], class["name"].as_str().unwrap());
            add(&name, &class["dice"]);
        }
        add("mean_dice", &line["mean_dice"]);
    }
    assert!(expected.len() >= 3 * 3 + 2);
    assert_eq!(found, expected);
}

#[test]
fn a_resumed_run_goes_on_in_another_file() {
    let lab = Lab::new();
    let step = stopped(&lab, "r", &["--tensorboard"]);
    // Cut short, as by the death of the process.
    let first = files(&lab, "r").remove(0);
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 3]).unwrap();
    let last = stopped(&lab, "r", &["--tensorboard", "--resume"]);
    let files = files(&lab, "r");
    assert_eq!(files.len(), 2);
    assert_eq!(fs::read(&files[0]).unwrap().len(), whole.len() - 3, "what is written stays");
    let events = events(&files[1]);
    assert!(events[1].starts && events[1].step == step + 1);
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event.scalars.iter().any(|(tag, _)| tag == "loss"))
        .map(|event| event.step)
        .collect();
    assert!(steps.len() > 1 && steps.iter().copied().eq(step + 1..=last), "{steps:?}");
}
