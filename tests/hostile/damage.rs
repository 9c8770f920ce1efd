//! Ways to damage a file, drawn so that a failing one is made smaller by itself.
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

/// One change of some bytes; places are modulo the length.
#[derive(Clone, Debug)]
pub enum Damage {
    Flip(u32, u8),
    Set(u32, u8),
    Insert(u32, Vec<u8>),
    Delete(u32, u16),
    Truncate(u32),
    /// Some bytes many times over.
    Repeat(u32, u8, u16),
    /// A number of 1, 2, 4 or 8 bytes, in either order.
    Number(u32, Vec<u8>),
}

impl Damage {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: u32, length: usize| at as usize % length.max(1);
        match self {
            Self::Flip(at, bit) => {
                let at = place(*at, bytes.len());
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Self::Set(at, value) => {
                let at = place(*at, bytes.len());
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = *value);
            }
            Self::Insert(at, more) => {
                let at = place(*at, bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Delete(at, count) => {
                let at = place(*at, bytes.len());
                let end = (at + usize::from(*count)).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Truncate(at) => bytes.truncate(place(*at, bytes.len())),
            Self::Repeat(at, length, times) => {
                let at = place(*at, bytes.len());
                let end = (at + usize::from(*length)).min(bytes.len());
                let more = bytes[at..end].repeat(usize::from(times % 2000));
                bytes.splice(at..at, more);
            }
            Self::Number(at, number) => {
                let at = place(*at, bytes.len());
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = *new);
            }
        }
    }
}

/// Numbers at which arithmetic breaks.
fn numbers() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop::sample::select(vec![0, 1, -1, 2, 7, 8, 127, 255, 32767, -32768, 65535, i64::MAX, i64::MIN]);
    let whole =
        (whole, prop::sample::select(vec![1usize, 2, 4, 8])).prop_map(|(n, width)| n.to_le_bytes()[..width].to_vec());
    let reals =
        vec![0.0, -0.0, 1e-320, 1e-38, 1e-9, 0.009, 100.5, -1.0, 1e9, 3e38, 1e300, f64::NAN, f64::INFINITY, -1e300];
    let real = (prop::sample::select(reals), any::<bool>())
        .prop_map(|(n, wide)| if wide { n.to_le_bytes().to_vec() } else { (n as f32).to_le_bytes().to_vec() });
    (prop_oneof![whole, real], any::<bool>()).prop_map(|(mut bytes, reversed)| {
        if reversed {
            bytes.reverse();
        }
        bytes
    })
}

/// `words` are what a reader of this kind of file looks for.
fn damage(words: &'static [&'static str]) -> impl Strategy<Value = Damage> {
    // Half of the places are among the first bytes, where headers are.
    let at = || prop_oneof![any::<u32>(), 0u32..600];
    let word = prop::sample::select(if words.is_empty() { &["\0"][..] } else { words }.to_vec());
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        3 => (at(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, more)| Damage::Insert(at, more)),
        3 => (at(), word).prop_map(|(at, word)| Damage::Insert(at, word.as_bytes().to_vec())),
        2 => (at(), 1u16..200).prop_map(|(at, count)| Damage::Delete(at, count)),
        1 => at().prop_map(Damage::Truncate),
        1 => (at(), any::<u8>(), any::<u16>()).prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        4 => (at(), numbers()).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

/// How many inputs a test tries: `usual`, or as VOXFIT_FUZZ_CASES says.
pub fn cases(usual: u32) -> u32 {
    std::env::var("VOXFIT_FUZZ_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Damages one of `seeds` in one to five ways and gives it to `check`, `usual` times.
pub fn fuzz(usual: u32, seeds: Vec<Vec<u8>>, words: &'static [&'static str], check: impl Fn(&[u8]) -> TestCaseResult) {
    let strategy = (0..seeds.len(), prop::collection::vec(damage(words), 1..6));
    run(usual, &strategy, |(seed, damages)| {
        let mut bytes = seeds[seed].clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        check(&bytes)
    });
}

/// Gives what `strategy` draws to `check`, `usual` times.
pub fn run<S: Strategy>(usual: u32, strategy: &S, check: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases: cases(usual), failure_persistence: None, max_shrink_iters: 5000, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner.run(strategy, check).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} inputs tried", cases(usual));
}
