//! Which instructions the inner loops use, chosen at run time.
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    Portable,
    Avx2,
    Avx512,
    Avx512Bf16,
}

/// The best the processor has, or what `VOXFIT_ISA` names if that is less.
pub fn isa() -> Isa {
    static CHOICE: OnceLock<Isa> = OnceLock::new();
    *CHOICE.get_or_init(|| available().last().copied().unwrap_or(Isa::Portable))
}

/// What the processor has, least first.
pub fn available() -> Vec<Isa> {
    let mut found = vec![Isa::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Isa::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            found.push(Isa::Avx512);
        }
    }
    found
}
