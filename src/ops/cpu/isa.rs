//! Which vector instructions to use, decided once at run time.
//!
//! A kernel is written once, over [`Lanes`] (sixteen `f32`), and compiled for every [`Isa`]. All of them give the
//! same bits: only correctly rounded operations (`+ - * /`, fused multiply-add, comparisons, integer arithmetic)
//! in one fixed order, so the instruction set is a matter of speed alone.
mod lanes;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub use lanes::{HAS_FUSED, LANES, Lanes, PortableLanes, fused};

/// Instruction sets, lowest first; a higher one contains the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the compiler's target has; on x86 the fused multiply-add is made of other operations, which is slow.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ, beside all of AVX2's.
    Avx512,
    /// AVX-512 with bf16 dot products. Only [`Lanes::pair_rounded`] uses its instructions, whose result goes into a dot
    /// product: they flush subnormals, as that does.
    Avx512Bf16,
}

impl Isa {
    /// All sets, lowest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];

    /// The name that `VOXFIT_ISA` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    /// The set of that name, in any case.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name.trim()))
    }

    /// The highest set that this CPU has.
    pub fn detected() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") {
                    return if has!("avx512bf16") { Isa::Avx512Bf16 } else { Isa::Avx512 };
                }
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// The set that this CPU is fastest with: the highest, but for Intel's bf16 dot products. A fourth-generation Xeon makes
    /// them at half the rate at which it makes the two fused multiply-adds that give the same bits.
    ///
    /// By the maker's name and not by a clock, so that one computer always takes the same way.
    pub fn fastest() -> Isa {
        let highest = Isa::detected();
        #[cfg(target_arch = "x86_64")]
        if highest == Isa::Avx512Bf16 && x86::made_by_intel() {
            return Isa::Avx512;
        }
        highest
    }

    /// The sets that this CPU has, lowest first.
    pub fn available() -> Vec<Isa> {
        let highest = Isa::detected();
        Isa::ALL.into_iter().filter(|&isa| isa <= highest).collect()
    }
}

/// The set in use: the CPU's [fastest](Isa::fastest), or what `VOXFIT_ISA=portable|avx2|avx512|avx512bf16` says.
///
/// A set that the CPU lacks falls back to the best lower one; a name that is none of these is warned of and ignored.
/// Read once, at the first call.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| choose(std::env::var("VOXFIT_ISA").ok().as_deref(), Isa::fastest(), Isa::detected()))
}

fn choose(wish: Option<&str>, fastest: Isa, highest: Isa) -> Isa {
    let Some(wish) = wish.filter(|wish| !wish.trim().is_empty()) else { return fastest };
    match Isa::from_name(wish) {
        Some(isa) => isa.min(highest),
        None => {
            tracing::warn!("VOXFIT_ISA={wish} is none of portable, avx2, avx512, avx512bf16; using {}", fastest.name());
            fastest
        }
    }
}

/// A computation written once over [`Lanes`]. `run` must be `#[inline(always)]`, and so must what it calls with
/// lanes in hand, or the vectors travel through memory.
pub trait Kernel {
    /// What the computation returns.
    type Output;
    /// Runs it.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`, or for the best lower set where the CPU lacks `isa`.
#[inline]
pub fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        match isa.min(highest()) {
            // SAFETY: `highest` has seen avx512f, bw, vl, dq, avx2, fma and f16c on this CPU.
            Isa::Avx512 => return unsafe { x86::run_avx512(kernel) },
            // SAFETY: as above, and avx512bf16.
            Isa::Avx512Bf16 => return unsafe { x86::run_avx512bf16(kernel) },
            // SAFETY: `highest` has seen avx2, fma and f16c on this CPU.
            Isa::Avx2 => return unsafe { x86::run_avx2(kernel) },
            Isa::Portable => {}
        }
    }
    let _ = isa;
    kernel.run::<PortableLanes>()
}

/// [`Isa::detected`], asked once.
#[cfg(target_arch = "x86_64")]
fn highest() -> Isa {
    static HIGHEST: OnceLock<Isa> = OnceLock::new();
    *HIGHEST.get_or_init(Isa::detected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_bounded_by_what_is_there() {
        let (avx2, avx512, bf16) = (Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16);
        assert_eq!(choose(None, avx2, avx2), avx2);
        assert_eq!(choose(Some(""), avx512, avx512), avx512);
        assert_eq!(choose(Some("portable"), avx512, avx512), Isa::Portable);
        assert_eq!(choose(Some("AVX512bf16"), avx2, avx2), avx2);
        assert_eq!(choose(Some("avx2"), bf16, bf16), avx2);
        assert_eq!(choose(Some("sse9"), avx512, avx512), avx512);
    }

    #[test]
    fn a_set_that_is_there_but_slow_is_taken_where_it_is_asked_for() {
        assert_eq!(choose(None, Isa::Avx512, Isa::Avx512Bf16), Isa::Avx512);
        assert_eq!(choose(Some("avx512bf16"), Isa::Avx512, Isa::Avx512Bf16), Isa::Avx512Bf16);
        assert_eq!(choose(Some("sse9"), Isa::Avx512, Isa::Avx512Bf16), Isa::Avx512);
    }

    #[test]
    fn names_come_back() {
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
    }

    /// Every operation of [`Lanes`] on numbers that include the awkward ones.
    struct Everything([f32; LANES], [f32; LANES], [f32; LANES]);

    impl Kernel for Everything {
        type Output = Vec<u32>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u32> {
            let (a, b, c) = (L::load(&self.0), L::load(&self.1), L::load(&self.2));
            let (low, high) = L::interleave(a, b);
            let (even, odd) = L::deinterleave(low, high);
            let mut out = Vec::new();
            let mut put = |lanes: L| {
                let mut values = [0.0; LANES];
                lanes.store(&mut values);
                out.extend(values.map(f32::to_bits));
            };
            for lanes in [a.add(b), a.sub(b), a.mul(b), a.div(b), a.fma(b, c), a.max(b), low, high, even, odd] {
                put(lanes);
            }
            put(L::select_gt(a, b, a, c));
            put(L::select_eq(a, b, a, c));
            put(a.add_bits(b));
            put(a.sub_bits(b));
            put(a.shl_bits::<3>());
            put(a.sar_bits::<5>());
            put(L::splat(a.sum()));
            let mut half = [0_u16; LANES];
            a.store_bf16(&mut half);
            put(L::load_bf16(&half));
            a.store_f16(&mut half);
            put(L::load_f16(&half));
            a.store_bf16(&mut half);
            let even = L::load_bf16(&half);
            b.store_bf16(&mut half);
            let odd = L::load_bf16(&half);
            put(L::pair_bf16(even, odd));
            put(L::pair_rounded(a, b));
            put(even.mul(even).sqrt());
            let (mut lower, mut upper) = ([0_u16; LANES], [0_u16; LANES]);
            c.halves(&mut lower, &mut upper);
            put(L::load(&lower.map(f32::from)));
            put(L::load(&upper.map(f32::from)));
            out
        }
    }

    #[test]
    fn sets_agree_bit_for_bit() {
        let mut state = 7_u32;
        let mut next = |spread: i32| {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let scale = 2.0_f32.powi(if spread == 0 { 0 } else { (state >> 9) as i32 % (2 * spread) - spread });
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        };
        for round in 0..200 {
            let spread = [0, 4, 30][round % 3];
            let a: [f32; LANES] = std::array::from_fn(|_| next(spread));
            let mut b: [f32; LANES] = std::array::from_fn(|_| next(spread));
            let c: [f32; LANES] = std::array::from_fn(|_| next(spread));
            b[3] = a[3];
            let expected = dispatch(Isa::Portable, Everything(a, b, c));
            for isa in Isa::available() {
                assert_eq!(dispatch(isa, Everything(a, b, c)), expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn portable_lanes_mean_what_they_say() {
        let a: [f32; LANES] = std::array::from_fn(|i| i as f32);
        let b: [f32; LANES] = std::array::from_fn(|i| 100.0 + i as f32);
        let (low, high) = PortableLanes::interleave(PortableLanes(a), PortableLanes(b));
        assert_eq!(low.0[..4], [0.0, 100.0, 1.0, 101.0]);
        assert_eq!(high.0[14..], [15.0, 115.0]);
        assert_eq!(PortableLanes(a).sum(), 120.0);
        assert_eq!(PortableLanes(a).fma(PortableLanes(b), PortableLanes(a)).0[2], 2.0 * 102.0 + 2.0);
        assert_eq!(PortableLanes([f32::NAN; LANES]).max(PortableLanes(a)).0, a);
        assert!(PortableLanes(a).max(PortableLanes([f32::NAN; LANES])).0[0].is_nan());
    }
}
