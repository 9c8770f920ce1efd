//! The arithmetic peak of this processor, measured: what a convolution's speed is compared with.
//!
//! Every thread runs chains of multiply-adds that depend on nothing but themselves, in registers, as many as hide the
//! instruction's latency.
use std::time::Instant;

use super::isa::{Isa, Kernel, Lanes, dispatch};

/// Instructions per chain and measurement: some milliseconds.
const STEPS: usize = 1 << 20;
/// Measurements, of which the best counts.
const REPEATS: usize = 5;

/// Operations per second of f32 multiply-adds, each counted as two, on all threads together.
pub fn f32_multiply_adds(isa: Isa) -> f64 {
    best(|| dispatch(isa, Chains))
}

/// The same of dot products of bf16 pairs, each counted as four; `None` where the processor has no such instruction.
pub fn bf16_dot_products(isa: Isa) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512Bf16 && Isa::detected() == Isa::Avx512Bf16 {
        // SAFETY: the processor has just been asked.
        return Some(best(|| unsafe { bf16_chains() }));
    }
    let _ = isa;
    None
}

/// The best of some runs of `work` on all threads at once; it gives the operations it has made.
fn best(work: impl Fn() -> f64 + Sync) -> f64 {
    let run = || {
        let start = Instant::now();
        let operations: f64 = rayon::broadcast(|_| work()).into_iter().sum();
        operations / start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(|_| run()).fold(0.0, f64::max)
}

struct Chains;

impl Kernel for Chains {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        // Of sixteen registers of half the width, five chains take ten.
        if L::MANY_REGISTERS { multiply_adds::<L, 12>(STEPS) } else { multiply_adds::<L, 5>(STEPS / 4) }
    }
}

#[inline(always)]
fn multiply_adds<L: Lanes, const CHAINS: usize>(steps: usize) -> f64 {
    let (factor, term) = (L::splat(0.999), L::splat(1e-3));
    let mut chains = [L::splat(std::hint::black_box(1.0)); CHAINS];
    for _ in 0..steps {
        for chain in &mut chains {
            *chain = chain.fma(factor, term);
        }
    }
    for chain in chains {
        std::hint::black_box(chain.sum());
    }
    (steps * CHAINS * super::isa::LANES * 2) as f64
}

/// # Safety
/// On a processor with AVX-512F and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_chains() -> f64 {
    use std::arch::x86_64::*;
    const CHAINS: usize = 12;
    // 1.0 twice in each lane; the transmute is between 64 bytes of the same meaning.
    // SAFETY: as above.
    let ones = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0x3f80_3f80)) };
    let mut chains = [_mm512_set1_ps(std::hint::black_box(0.0)); CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = _mm512_dpbf16_ps(*chain, ones, ones);
        }
    }
    for chain in chains {
        std::hint::black_box(_mm512_reduce_add_ps(chain));
    }
    (STEPS * CHAINS * 16 * 4) as f64
}
