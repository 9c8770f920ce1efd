//! Weights of other programs and model files.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use voxfit::config::Device;
use voxfit::exchange::{ImportOptions, Model, import};

use crate::allocation::{alone, measured};
use crate::common::Lab;
use crate::damage::fuzz;

/// Bytes that reading a file of some ten kilobytes may take.
const MOST: usize = 32 << 20;

const WORDS: &[&str] = &[
    "cos\nsystem\n",
    "cbuiltins\neval\n",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "ccollections\nOrderedDict\n",
    "(",
    ".",
    "R",
    "Q",
    "b",
    "}",
    "]",
    "t",
    "u",
    "e",
    "h\u{1}",
    "q\u{1}",
    "J\u{7f}\u{7f}\u{7f}\u{7f}",
    "X\u{7f}\u{7f}\u{7f}\u{7f}",
    "PK\u{1}\u{2}",
    "PK\u{5}\u{6}",
    "PK\u{6}\u{6}",
];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn take(folder: &Path, bytes: &[u8]) -> Result<(), String> {
    let file = folder.join("weights");
    fs::write(&file, bytes).unwrap();
    let options = ImportOptions { file, output: folder.join("out"), like: None };
    import(&options).map(|_| ()).map_err(|error| error.to_string())
}

fn look(folder: &Path, bytes: &[u8]) -> TestCaseResult {
    let (result, peak) = measured(|| take(folder, bytes));
    if let Err(said) = result {
        prop_assert!(said.contains("weights: ") && said.contains("; ") && said.len() < 1000, "{said}");
    }
    prop_assert!(peak <= MOST, "{peak} bytes were held");
    Ok(())
}

/// The entries of an archive of stored files, by Python's rules: names and contents in order.
fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number =
        |at: usize, width: usize| archive[at..at + width].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    let end = (0..archive.len() - 21).rev().find(|at| archive[*at..].starts_with(b"PK\x05\x06")).unwrap();
    let mut at = number(end + 16, 4);
    let mut found = Vec::new();
    while archive[at..].starts_with(b"PK\x01\x02") {
        let (size, name, more) = (number(at + 20, 4), number(at + 28, 2), number(at + 30, 2) + number(at + 32, 2));
        let header = number(at + 42, 4);
        let start = header + 30 + number(header + 26, 2) + number(header + 28, 2);
        let text = String::from_utf8(archive[at + 46..at + 46 + name].to_vec()).unwrap();
        found.push((text, archive[start..start + size].to_vec()));
        at += 46 + name + more;
    }
    found
}

/// What an entry says of itself.
struct Said {
    method: u16,
    size: u32,
}

/// An archive of `entries`; `change` may let one lie.
fn archive(entries: &[(String, Vec<u8>)], change: impl Fn(&str, &mut Said)) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut said = Said { method: 0, size: content.len() as u32 };
        change(name, &mut said);
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let mut fields = Vec::new();
        fields.extend([20, 0, 0, 0]);
        fields.extend(said.method.to_le_bytes());
        fields.extend([0; 4]);
        fields.extend(crc.sum().to_le_bytes());
        fields.extend([said.size.to_le_bytes(), said.size.to_le_bytes()].concat());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        let header = bytes.len() as u32;
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&fields);
        bytes.extend(name.as_bytes());
        bytes.extend(content);
        list.extend(b"PK\x01\x02\x14\x00");
        list.extend(&fields);
        list.extend([0; 10]);
        list.extend(header.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let start = bytes.len() as u32;
    bytes.extend(&list);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend([count, count].concat());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn with_pickle(entries: &[(String, Vec<u8>)], pickle: &[u8]) -> Vec<u8> {
    let mut entries = entries.to_vec();
    let place = entries.iter_mut().find(|(name, _)| name.ends_with("/data.pkl")).unwrap();
    place.1 = pickle.to_vec();
    archive(&entries, |_, _| ())
}

#[test]
fn damaged_checkpoints_of_nnunet_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let whole = fixture("nnunet_checkpoint.pth");
    take(folder.path(), &whole).unwrap();
    let parts = entries(&whole);
    take(folder.path(), &archive(&parts, |_, _| ())).unwrap();
    fuzz(500, vec![whole], WORDS, |bytes| look(folder.path(), bytes));
    // Sums that fit, so that the damage reaches the reader of the pickle.
    let pickle = parts.iter().find(|(name, _)| name.ends_with("/data.pkl")).unwrap().1.clone();
    fuzz(2000, vec![pickle], WORDS, |pickle| look(folder.path(), &with_pickle(&parts, pickle)));
    fuzz(300, vec![fixture("nnunet_checkpoint.safetensors")], WORDS, |bytes| look(folder.path(), bytes));
}

/// Each is what a file that wants to run something, or to fill the memory, would say.
#[test]
fn pickles_that_are_no_weights_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let parts = entries(&fixture("nnunet_checkpoint.pth"));
    let pair = |count: usize, piece: &[u8]| piece.repeat(count);
    let cases: BTreeMap<&str, (Vec<u8>, &str)> = BTreeMap::from([
        (
            "a command",
            (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.".to_vec(), "os.system, and nothing of a file is run"),
        ),
        ("by name", (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.".to_vec(), "builtins.eval")),
        ("an object", (b"\x80\x02ccollections\nOrderedDict\n)\x81.".to_vec(), "opcode 0x81")),
        ("an instance", (b"(ios\nsystem\n.".to_vec(), "opcode 0x69")),
        ("nothing", (Vec::new(), "cut short")),
        ("from below", (b"\x80\x02(e.".to_vec(), "takes what is not there")),
        ("a long text", (b"\x80\x02X\xff\xff\xff\xff.".to_vec(), "cut short")),
        ("a memo", (b"\x80\x02}r\xff\xff\xff\xff.".to_vec(), "no tensor")),
        (
            "values",
            ([b"\x80\x02".to_vec(), pair(2_100_000, b"]0"), b".".to_vec()].concat(), "more than 2000000 values"),
        ),
        (
            "depth",
            ([b"\x80\x02".to_vec(), pair(1_000_000, b"]"), pair(999_999, b"a"), b".".to_vec()].concat(), "no tensor"),
        ),
        ("itself", (b"\x80\x02]q\x00h\x00a.".to_vec(), "no tensor")),
    ]);
    for (what, (pickle, words)) in cases {
        let bytes = with_pickle(&parts, &pickle);
        let (said, peak) = measured(|| take(folder.path(), &bytes));
        let said = said.unwrap_err();
        assert!(said.contains(words), "{what}: {said}");
        assert!(peak < 200 << 20, "{what}: {peak}");
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let parts = entries(&fixture("nnunet_checkpoint.pth"));
    type Change = Box<dyn Fn(&str, &mut Said)>;
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(|name, said| {
                if name.ends_with("/data/0") {
                    said.method = 8
                }
            }),
            "packed",
        ),
        (
            Box::new(|name, said| {
                if name.ends_with("/data/0") {
                    said.size = 0xffff_fff0
                }
            }),
            "larger than the file",
        ),
        (
            Box::new(|name, said| {
                if name.ends_with("/data/0") {
                    said.size -= 4
                }
            }),
            "CRC-32 differs",
        ),
        (
            Box::new(|name, said| {
                if name.ends_with("/data.pkl") {
                    said.size = 20_000_000
                }
            }),
            "larger than the file",
        ),
    ];
    for (change, words) in cases {
        let said = take(folder.path(), &archive(&parts, change)).unwrap_err();
        assert!(said.contains(words) || said.contains("not as large as its entry"), "{said}");
    }
    // Of one byte more than 4 GiB, as its end would say; and that end where it belongs.
    let whole = archive(&parts, |_, _| ());
    let end = whole.len() - 22;
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
    let (size, start) = (u64::from(number(end + 12)), u64::from(number(end + 16)));
    let mut wide = whole[..end].to_vec();
    wide.extend(
        [b"PK\x06\x06".to_vec(), vec![0; 36], size.to_le_bytes().to_vec(), start.to_le_bytes().to_vec()].concat(),
    );
    wide.extend([b"PK\x06\x07\0\0\0\0".to_vec(), (end as u64).to_le_bytes().to_vec(), vec![0; 4]].concat());
    wide.extend([&whole[end..end + 12], &[0xff; 8], &[0, 0]].concat());
    take(folder.path(), &wide).unwrap();
    let locator = wide.len() - 22 - 20;
    wide[locator + 8..locator + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(take(folder.path(), &wide).unwrap_err().contains("damaged"));
    let mut twice = parts.clone();
    twice.push(twice[0].clone());
    assert!(take(folder.path(), &archive(&twice, |_, _| ())).unwrap_err().contains("one name"));
    let without: Vec<_> = parts.iter().filter(|(name, _)| !name.ends_with("data.pkl")).cloned().collect();
    assert!(take(folder.path(), &archive(&without, |_, _| ())).unwrap_err().contains("no data.pkl"));
    let mut swapped = parts.clone();
    swapped.iter_mut().filter(|(name, _)| name.ends_with("byteorder")).for_each(|(_, text)| *text = b"big".to_vec());
    assert!(take(folder.path(), &archive(&swapped, |_, _| ())).unwrap_err().contains("byte order"));
    assert!(take(folder.path(), b"\x80\x02}.").unwrap_err().contains("before 1.6"));
}

#[test]
fn damaged_model_files_are_read_or_refused() {
    let _alone = alone();
    let lab = Lab::new();
    lab.done(&["train", "c.toml", "--run", "r", "--set", "train.steps=1", "--set", "network.features=2"]);
    lab.done(&["pack", "r", "-o", "m.voxfit"]);
    let path = lab.path("m.voxfit");
    let whole = fs::read(&path).unwrap();
    let device = voxfit::device::open(Device::Cpu).unwrap();
    let read = || -> Result<(), String> {
        let model = Model::open(&path).map_err(|error| error.to_string())?;
        model.networks(&path, &device).map(|_| ()).map_err(|error| error.to_string())
    };
    read().unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes)?;
        let (result, peak) = measured(read);
        if let Err(said) = result {
            prop_assert!(said.contains("m.voxfit: ") && said.contains("; "), "{said}");
        }
        prop_assert!(peak <= 64 << 20, "{peak} bytes were held");
        Ok(())
    };
    let words: &[&str] =
        &["\"format\":2", "\\\"networks\\\":[", "\\n[[network.stages]]\\n", "0", "-1", "}", "\"0/", "1e300"];
    fuzz(600, vec![whole.clone()], words, check);
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (header, data) = whole[8..].split_at(length);
    fuzz(1000, vec![header.to_vec()], words, |header| {
        check(&[&(header.len() as u64).to_le_bytes()[..], header, data].concat())
    });
}
