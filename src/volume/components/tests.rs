use proptest::prelude::*;

use super::*;

/// Labels 0 to 3 that a formula makes on both sides.
fn formula(size: [usize; 3], share: usize) -> Array3<u16> {
    Array3::from_shape_fn(size, |(z, y, x)| {
        let number = (z * 73 + y * 151 + x * 283 + (z * y * 7 + y * x * 3 + z * x * 5) % 97) % 100;
        if number < share { (1 + (z / 3 + y / 4 + x / 5) % 3) as u16 } else { 0 }
    })
}

fn found(map: &Array3<u16>, key: impl Fn(u16) -> u16) -> Parts {
    Parts::find(&mut map.clone(), key, &Storage::unbounded()).unwrap()
}

// scipy 1.17.1, numpy: z, y, x = numpy.indices(size);
//   number = (z*73 + y*151 + x*283 + (z*y*7 + y*x*3 + z*x*5) % 97) % 100
//   map = numpy.where(number < share, 1 + (z//3 + y//4 + x//5) % 3, 0)
//   parts, n = scipy.ndimage.label(mask, numpy.ones((3, 3, 3))); numpy.bincount(parts.ravel())[1:].max()
// with mask = map == 1, 2, 3 and map > 0.
#[test]
fn parts_are_those_of_scipy() {
    for (size, share, expected) in RECORDED {
        let map = formula(size, share);
        let (each, all) = (found(&map, |label| label), found(&map, |label| u16::from(label > 0)));
        let seen = [each.of(1), each.of(2), each.of(3), all.of(1)].map(|parts| (parts.count, parts.largest));
        assert_eq!(seen, expected, "{size:?} {share}");
        assert_eq!(each.of(4), PartsOfKey::default());
    }
}

type Recorded = ([usize; 3], usize, [(u64, u64); 4]);
const RECORDED: [Recorded; 4] = [
    ([7, 9, 11], 20, [(13, 9), (12, 13), (9, 30), (7, 133)]),
    ([16, 20, 24], 8, [(112, 7), (109, 9), (110, 11), (176, 50)]),
    ([16, 20, 24], 30, [(32, 290), (29, 250), (37, 331), (3, 2290)]),
    ([30, 33, 37], 12, [(543, 22), (515, 17), (551, 23), (412, 2498)]),
];

/// Voxel after voxel, each with all its neighbours.
fn plainly_kept(map: &Array3<u16>) -> Array3<u16> {
    let mut part = Array3::<usize>::zeros(map.dim());
    let mut sizes = vec![(0, 0)];
    for (start, &label) in map.indexed_iter() {
        if label == 0 || part[start] != 0 {
            continue;
        }
        let number = sizes.len();
        sizes.push((label, 0));
        part[start] = number;
        let mut pending = vec![start];
        while let Some((z, y, x)) = pending.pop() {
            sizes[number].1 += 1;
            for (near, &other) in map.indexed_iter() {
                let close = near.0.abs_diff(z) < 2 && near.1.abs_diff(y) < 2 && near.2.abs_diff(x) < 2;
                if close && other == label && part[near] == 0 {
                    part[near] = number;
                    pending.push(near);
                }
            }
        }
    }
    let largest = |label: u16| sizes.iter().filter(|part| part.0 == label).map(|part| part.1).max();
    let mut kept = map.clone();
    kept.zip_mut_with(&part, |label, &part| {
        if *label != 0 && Some(sizes[part].1) != largest(*label) {
            *label = 0;
        }
    });
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_the_largest(
        size in [1_usize..6, 1_usize..7, 1_usize..12],
        classes in 1_u64..4,
        share in 2_u64..9,
        seed in any::<u64>(),
    ) {
        use rand::Rng;
        let mut random = crate::random::stream(seed, "test", 0, 0);
        let map = Array3::from_shape_fn(size, |_| {
            let drawn = random.next_u64();
            if drawn % 10 < share { 1 + (drawn >> 32) as u16 % classes as u16 } else { 0 }
        });
        let expected = plainly_kept(&map);
        let mut kept = map.clone();
        keep_largest(&mut kept, |label| label, &Storage::unbounded()).unwrap();
        prop_assert_eq!(&kept, &expected);
        // The same where all lies in files.
        let storage = Storage::new(Some(0), &std::env::temp_dir());
        let [z, y, x] = size;
        let mut planes = storage.zeros::<u16>("test", [1, z, y, x], 0).unwrap();
        planes.write_box(0, [0; 3], map.view()).unwrap();
        keep_largest(&mut planes, |label| label, &storage).unwrap();
        prop_assert_eq!(planes.read_box(0, [0; 3], size).unwrap(), expected);
    }
}

/// More parts than a piece of the table has room for, in memory and not.
#[test]
fn dust_is_counted_to_the_last_grain() {
    let map = Array3::from_shape_fn([41, 61, 81], |(z, y, x)| u16::from(z % 2 + y % 2 + x % 2 == 0));
    for storage in [Storage::unbounded(), Storage::new(Some(100_000), &std::env::temp_dir())] {
        let parts = Parts::find(&mut map.clone(), |label| label, &storage).unwrap();
        assert_eq!(parts.of(1), PartsOfKey { count: 21 * 31 * 41, largest: 1 });
    }
}
