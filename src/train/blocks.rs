//! A micro-batch's forward and backward pass with the insides of blocks computed again.
//!
//! A block is an encoder stage or a decoder level. The forward pass runs without a graph and keeps the blocks' outputs
//! alone; then, from the loss back, each block runs once more with a graph of its own, whose backward pass starts at the
//! gradient of its output and ends at those of its inputs. The finest level runs once: it is the last of the one pass and
//! the first of the other. What is computed again has the same bits, every parameter's gradient is added at one place,
//! and where a tensor is read twice there are two addends: so the gradient is that of a plain backward pass, bit for bit.
//!
//! Costs a second forward pass of all but the finest level, about a fifth of a step. Where the device is the tight one, what
//! is kept waits in the host's memory, and comes back with the bits it had.
use burn::tensor::{Gradients, Tensor};

use crate::network::{BatchStatistics, Mode, UNet};
use crate::ops::{self, Activation, Parked};

/// The loss of a head, `[batch]`, from its number and its logits.
pub type HeadLoss<'a> = dyn Fn(usize, Tensor<5>) -> Tensor<1> + 'a;

/// A block's output between the passes.
enum Boundary {
    Here(Activation),
    Parked(Parked),
}

impl Boundary {
    fn of(activation: Activation, park: bool) -> Self {
        if park { Self::Parked(activation.park()) } else { Self::Here(activation) }
    }

    /// As the start of a graph.
    fn leaf(&self) -> Activation {
        match self {
            Self::Here(activation) => activation.clone().leaf(),
            Self::Parked(parked) => parked.fetch().leaf(),
        }
    }

    /// The same, once nobody needs it here any more.
    fn into_leaf(self) -> Activation {
        match self {
            Self::Here(activation) => activation.leaf(),
            Self::Parked(parked) => parked.fetch().leaf(),
        }
    }
}

/// Gradients go to the parameters' sinks; gives each head's losses `[batch]`, finest first. `image` is in the activation
/// type and on no graph; with `park` what stays of the forward pass waits in the host's memory; `go_on` is asked before
/// every block.
///
/// # Errors
/// The first of `go_on`; gradients that were added by then stay in the sinks.
pub fn pass<E>(
    network: &UNet,
    image: Tensor<5>,
    park: bool,
    loss: &HeadLoss<'_>,
    statistics: &mut BatchStatistics,
    go_on: &impl Fn() -> Result<(), E>,
) -> Result<Vec<Tensor<1>>, E> {
    let mut mode = Mode::Train(statistics);
    let Boundaries { mut encoder, mut below } = forward(network, &image, park, &mut mode, go_on)?;
    let mut losses = Vec::new();
    // Of the output of the block at hand.
    let mut gradient: Option<Tensor<5>> = None;
    let mut of_skips: Vec<Option<Tensor<5>>> = Vec::new();
    for level in 0..network.levels() {
        let Some(input) = below.pop().map(Boundary::into_leaf) else { break };
        go_on()?;
        let skip = encoder.get(level).map(Boundary::leaf);
        let output = network.level(level, input.clone(), skip.clone(), &mut mode);
        let head = (level < network.heads_in_loss()).then(|| network.head(level, &output)).flatten();
        let mut start = Vec::new();
        if let Some(logits) = head {
            let loss = loss(level, logits);
            losses.push(loss.clone().inner());
            start.push(loss);
        }
        start.extend(gradient.take().map(|gradient| ops::seed(output.clone(), gradient)));
        drop(output);
        let mut found = backward(start);
        gradient = found.as_mut().and_then(|found| input.gradient(found));
        of_skips.push(found.as_mut().and_then(|found| skip.as_ref()?.gradient(found)));
        mode = Mode::Again;
    }
    while let Some(input) = encoder.pop() {
        go_on()?;
        let input = input.into_leaf();
        let stage = encoder.len() + 1;
        let output = network.stage(stage, input.clone(), &mut mode);
        let start = gradient.take().map(|gradient| ops::seed(output, gradient));
        let mut found = backward(start);
        let next = found.as_mut().and_then(|found| input.gradient(found));
        // The output of the stage above was read by this one and by its decoder level; one takes the other in, in place.
        let of_skip = of_skips.get_mut(stage - 1).and_then(Option::take);
        gradient = next.into_iter().chain(of_skip).reduce(|sum, other| sum + other);
    }
    go_on()?;
    let output = network.first_stage(image.autodiff().require_grad(), &mut mode);
    drop(backward(gradient.map(|gradient| ops::seed(output, gradient))));
    statistics.count_micro_batch();
    Ok(losses)
}

/// What stays of the forward pass.
struct Boundaries {
    /// Outputs of the encoder stages but the deepest.
    encoder: Vec<Boundary>,
    /// What comes into each decoder level from below, deepest first.
    below: Vec<Boundary>,
}

fn forward<E>(
    network: &UNet,
    image: &Tensor<5>,
    park: bool,
    mode: &mut Mode<'_>,
    go_on: &impl Fn() -> Result<(), E>,
) -> Result<Boundaries, E> {
    let mut encoder = Vec::new();
    go_on()?;
    let mut x = network.first_stage(image.clone(), mode);
    for stage in 1..network.stages() {
        go_on()?;
        encoder.push(Boundary::of(x.clone(), park));
        x = network.stage(stage, x, mode);
    }
    let mut below = vec![Boundary::of(x.clone(), park)];
    for level in (1..network.levels()).rev() {
        go_on()?;
        let skip = encoder.get(level).map(|skip| match skip {
            Boundary::Here(activation) => activation.clone(),
            Boundary::Parked(parked) => parked.fetch(),
        });
        x = network.level(level, x, skip, mode);
        below.push(Boundary::of(x.clone(), park));
    }
    Ok(Boundaries { encoder, below })
}

/// The backward pass from the sum of `start`.
fn backward(start: impl IntoIterator<Item = Tensor<1>>) -> Option<Gradients> {
    let total = start.into_iter().reduce(|sum, next| sum + next)?;
    Some(total.backward())
}
