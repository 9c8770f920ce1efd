//! A quick digest of all weights, for every step of a run: it finds differences, and withstands no one who looks for two
//! networks with one digest. That is what [`super::weights_sha256`] is for.
//!
//! The weights are cut into stretches of fixed length, which threads share out; what is hashed last is the list of the
//! stretches' hashes in their order. So the digest is the same for any number of threads and on any machine.
use rayon::prelude::*;

use super::parameter::little_endian;

/// Values hashed together.
const STRETCH: usize = 1 << 16;

/// The hashes of a tensor's stretches.
pub fn stretches(values: &[f32]) -> Vec<u64> {
    let hash = |stretch: &[f32]| xxh64(&little_endian(stretch));
    // Most tensors are small, and handing work to threads costs more than hashing them.
    match values.len() {
        0..=STRETCH => values.chunks(STRETCH).map(hash).collect(),
        _ => values.par_chunks(STRETCH).map(hash).collect(),
    }
}

/// A tensor as the digest sees it.
pub struct Hashed<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// Of [`stretches`].
    pub stretches: Vec<u64>,
}

/// XXH64 over the tensors, names in bytewise order: each as u32 name length, name, u32 rank, u64 sizes, and the u64
/// XXH64 of every 65536 of its f32 values (the last may be fewer), all little-endian. Sixteen hexadecimal digits.
pub fn weights_digest(mut tensors: Vec<Hashed<'_>>) -> String {
    tensors.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut bytes = Vec::new();
    for tensor in tensors {
        bytes.extend((tensor.name.len() as u32).to_le_bytes());
        bytes.extend(tensor.name.as_bytes());
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
        tensor.stretches.iter().for_each(|hash| bytes.extend(hash.to_le_bytes()));
    }
    format!("{:016x}", xxh64(&bytes))
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

/// XXH64 with seed 0, as the xxHash specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) has it.
fn xxh64(bytes: &[u8]) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let round = |sum: u64, lane: u64| sum.wrapping_add(lane.wrapping_mul(p2)).rotate_left(31).wrapping_mul(p1);
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut hash = p5;
    if !blocks.is_empty() {
        let mut sums = [p1.wrapping_add(p2), p2, 0, 0u64.wrapping_sub(p1)];
        for block in blocks {
            for (sum, lane) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
                *sum = round(*sum, u64::from_le_bytes(*lane));
            }
        }
        let turned = sums.iter().zip([1, 7, 12, 18]).map(|(sum, turn)| sum.rotate_left(turn));
        hash = turned.fold(0, u64::wrapping_add);
        for sum in sums {
            hash = (hash ^ round(0, sum)).wrapping_mul(p1).wrapping_add(p4);
        }
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    let (eights, rest) = rest.as_chunks::<8>();
    for lane in eights {
        hash = (hash ^ round(0, u64::from_le_bytes(*lane))).rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for lane in fours {
        let lane = u64::from(u32::from_le_bytes(*lane)).wrapping_mul(p1);
        hash = (hash ^ lane).rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(p3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recipe, with python-xxhash: [xxh64_intdigest(bytes((7 * i + 3) % 256 for i in range(n))) for n in ...]
    #[test]
    fn the_hash_is_the_published_one() {
        for (length, expected) in [
            (0usize, 0xef46db3751d8e999u64),
            (1, 0x1f25c8d0bc1f4bb6),
            (4, 0x9bb64b7d66ee9fda),
            (11, 0x7a52cc9457cf1a1f),
            (31, 0xa2aa5f33cc4a6119),
            (32, 0x23c3c17ef790fd97),
            (63, 0x5e3e54b431c7493c),
            (100, 0xa61f8d4c170fe531),
        ] {
            let bytes: Vec<u8> = (0..length).map(|index| ((7 * index + 3) % 256) as u8).collect();
            assert_eq!(xxh64(&bytes), expected, "{length}");
        }
    }

    /// Recipe: docs/reproducibility.md's, over a.weight [2, 70000] of i / 8 and b [1] of 0.25.
    #[test]
    fn the_digest_is_the_documented_one_with_any_number_of_threads() {
        let values: Vec<f32> = (0..140_000).map(|index| index as f32 / 8.0).collect();
        let digest = || {
            let [a, b] = [&values[..], &[0.25]].map(stretches);
            let b = Hashed { name: "b", shape: &[1], stretches: b };
            weights_digest(vec![b, Hashed { name: "a.weight", shape: &[2, 70_000], stretches: a }])
        };
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(digest), "229d685a53a804a8");
        }
    }
}
