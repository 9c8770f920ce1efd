//! Named numbers: what is learnt, and what a batch norm remembers.
use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::ops::tree::Stretch;
use crate::ops::{GradientSink, HostView};

/// One learnt tensor, in f32, flat; the shape is what it means.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Dotted, as in checkpoints.
    pub name: String,
    /// Its sizes, the slowest first: `[out, in, z, y, x]` of a convolution.
    pub shape: Vec<usize>,
    /// The values, flat.
    pub value: Tensor<1>,
    /// Where backward passes add its gradient.
    pub sink: GradientSink,
}

impl Parameter {
    /// Of `values`, which are as many as `shape` says, on `device`.
    pub fn new(name: String, shape: Vec<usize>, values: Vec<f32>, device: &Device) -> Self {
        let length = values.len();
        let value = Tensor::from_data(TensorData::new(values, [length]), device);
        Self { name, shape, value, sink: GradientSink::default() }
    }

    /// As a convolution's weights; a parameter of another rank gets ones in front.
    pub fn weights(&self) -> Tensor<5> {
        self.value.clone().reshape(self.weights_shape())
    }

    fn weights_shape(&self) -> [usize; 5] {
        let mut shape = [1; 5];
        shape[5 - self.shape.len()..].copy_from_slice(&self.shape);
        shape
    }

    /// Begins a step of these samples, of which `at_once` come together ([`GradientSink::begin`]). Other devices than
    /// the processor add up as it comes.
    pub fn begin_gradient(&self, stretch: &Stretch, at_once: usize) {
        if self.value.device() != Device::flex() {
            return;
        }
        match self.shape.len() {
            1 => self.sink.begin(&self.shape, stretch, at_once),
            _ => self.sink.begin(&self.weights_shape(), stretch, at_once),
        }
    }

    /// The gradient's parts over the samples of this process, flat ([`GradientSink::take_parts`]); none where no backward
    /// pass reached it.
    pub fn take_parts(&self) -> Vec<Tensor<1>> {
        let length = self.value.dims()[0];
        match self.shape.len() {
            1 => self.sink.take_parts::<1>(),
            _ => self.sink.take_parts::<5>().into_iter().map(|part| part.reshape([length])).collect(),
        }
    }

    /// The sum of gradients since the last call, flat; zeros where no backward pass reached it.
    pub fn take_gradient(&self) -> Tensor<1> {
        let length = self.value.dims()[0];
        let sum = if self.shape.len() == 1 {
            self.sink.take::<1>()
        } else {
            self.sink.take::<5>().map(|sum| sum.reshape([length]))
        };
        sum.unwrap_or_else(|| Tensor::zeros([length], &self.value.device()))
    }

    /// The values on the host.
    pub fn values(&self) -> Vec<f32> {
        host(&self.value)
    }
}

/// A tensor's values on the host, in f32.
pub fn host(tensor: &Tensor<1>) -> Vec<f32> {
    HostView::of(tensor).values().into_owned()
}

/// A remembered tensor that is not learnt: a batch norm's running mean or variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Dotted, as in checkpoints.
    pub name: String,
    /// One per channel.
    pub values: Vec<f32>,
}

/// Whether the tensor of this name is part of a head, which gives the scores of classes.
pub fn is_head(name: &str) -> bool {
    name.starts_with("head.")
}

/// SHA-256 over named f32 tensors, names in bytewise order: each as u32 name length, name, u32 rank, u64 sizes, f32
/// values, all little-endian.
pub fn weights_sha256<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize], Cow<'a, [f32]>)>) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let mut digest = WeightsDigest::new();
    for (name, shape, values) in tensors {
        digest.add(name, shape, &little_endian(&values));
    }
    digest.finish()
}

/// The bytes of values as files and digests have them.
pub fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// The digest of [`weights_sha256`], tensor after tensor.
pub struct WeightsDigest(Sha256);

impl WeightsDigest {
    /// Of nothing yet.
    #[allow(clippy::new_without_default, reason = "a digest of nothing is of no use")]
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// The next tensor in bytewise order of names; `values` are f32, little-endian.
    pub fn add(&mut self, name: &str, shape: &[usize], values: &[u8]) {
        self.0.update((name.len() as u32).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update((shape.len() as u32).to_le_bytes());
        for size in shape {
            self.0.update((*size as u64).to_le_bytes());
        }
        self.0.update(values);
    }

    /// In hexadecimal, 64 letters.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::weights_sha256;

    /// Recipe: python3 -c "import hashlib,struct as s; p=lambda n,d,v: s.pack('<I',len(n))+n+s.pack('<I',len(d))+
    /// b''.join(s.pack('<Q',x) for x in d)+b''.join(s.pack('<f',x) for x in v);
    /// print(hashlib.sha256(p(b'a.weight',[1,2],[1.5,-2.0])+p(b'b',[1],[0.25])).hexdigest())"
    #[test]
    fn digest_is_the_documented_one() {
        let tensors: [(&str, &[usize], _); 2] =
            [("b", &[1], vec![0.25].into()), ("a.weight", &[1, 2], vec![1.5, -2.0].into())];
        assert_eq!(
            weights_sha256(tensors.into_iter()),
            "c993605ab57b6b6431d7a331153b8935a4a1d23968fdfbfcb3cb13261c3791fa"
        );
    }
}
