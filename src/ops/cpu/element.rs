//! Storage types.
pub trait Element: Copy + Send + Sync + Default + 'static {
    fn to_f32(self) -> f32;
    fn from_f32(value: f32) -> Self;
    fn widen(source: &[Self], target: &mut [f32]) {
        for (s, t) in source.iter().zip(target) {
            *t = s.to_f32();
        }
    }
    fn narrow(source: &[f32], target: &mut [Self]) {
        for (s, t) in source.iter().zip(target) {
            *t = Self::from_f32(*s);
        }
    }
}
impl Element for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> f32 {
        value
    }
}
impl Element for half::bf16 {
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    fn from_f32(value: f32) -> Self {
        half::bf16::from_f32(value)
    }
}
