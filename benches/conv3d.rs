//! Speed of single convolutions: `cargo bench --bench conv3d -- [SHAPE] [REPEATS] [f32|bf16]`, as in `-- 32x64 9 bf16`.
//!
//! Per shape, direction and precision the best of some runs, in GFLOP/s and as a share of the arithmetic peak that is
//! measured in the same run. Memory is kept between runs, as in training.
use half::bf16;
use voxfit::ops::cpu::conv::ConvShape;
use voxfit::ops::cpu::conv::speed::measure;
use voxfit::ops::cpu::element::Element;
use voxfit::ops::cpu::isa::{Isa, isa};
use voxfit::ops::cpu::peak;
use voxfit::ops::cpu::pool::{Keep, Pool};
use voxfit::ops::cpu::worker::on_worker;

#[global_allocator]
static ALLOCATOR: Pool = Pool;

/// Input channels, output channels, voxels along each axis, kernel, stride.
const SHAPES: [(usize, usize, usize, usize, usize); 11] = [
    (1, 32, 64, 3, 1),
    (32, 32, 64, 3, 1),
    (64, 32, 64, 3, 1),
    (32, 64, 64, 3, 2),
    (32, 64, 32, 3, 1),
    (64, 64, 32, 3, 1),
    (128, 128, 16, 3, 1),
    (256, 256, 8, 3, 1),
    (320, 320, 4, 3, 1),
    (32, 4, 64, 1, 1),
    (32, 64, 64, 2, 2),
];

fn main() -> Result<(), String> {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = arguments.first().map_or("", String::as_str);
    let repeats = arguments.get(1).map_or(Ok(7), |text| text.parse::<usize>());
    let repeats = repeats.map_err(|_| "repeats are a number")?.max(1);
    let precision = arguments.get(2).map_or("", String::as_str);
    let _keep = Keep::new();
    let isa = isa();
    let single = peak::f32_multiply_adds(isa);
    let paired = peak::bf16_dot_products(isa).unwrap_or(single);
    println!(
        "{} threads, {}; measured peak f32 {:.0}, bf16 {:.0} GFLOP/s",
        rayon::current_num_threads(),
        isa.name(),
        single / 1e9,
        paired / 1e9
    );
    println!("{:<22} {:<5} {:>14} {:>14} {:>14} {:>14}", "shape", "", "forward", "input", "weights", "gradients");
    for (inputs, outputs, size, kernel, stride) in SHAPES {
        let name = format!("{inputs}x{outputs} at {size}, {kernel}/{stride}");
        if !name.contains(wanted) {
            continue;
        }
        let shape = ConvShape {
            batch: 1,
            in_channels: inputs,
            out_channels: outputs,
            size: [size; 3],
            kernel: [kernel; 3],
            stride: [stride; 3],
        };
        if precision != "bf16" {
            print::<f32>(isa, &name, "f32", &shape, repeats, single);
        }
        if precision != "f32" {
            print::<bf16>(isa, &name, "bf16", &shape, repeats, paired);
        }
    }
    Ok(())
}

fn print<E: Element>(isa: Isa, name: &str, precision: &str, shape: &ConvShape, repeats: usize, peak: f64) {
    let flop = 2.0 * (shape.weights() * shape.out_voxels()) as f64;
    let seconds = on_worker(|| measure::<E>(isa, shape, repeats));
    let (forward, input, weights) = (seconds.forward, seconds.input_gradient, seconds.weight_gradient);
    let cell = |seconds: f64, flop: f64| {
        let speed = flop / seconds;
        format!("{:>7.0} {:>4.0} %", speed / 1e9, 100.0 * speed / peak)
    };
    println!(
        "{name:<22} {precision:<5} {:>14} {:>14} {:>14} {:>14}",
        cell(forward, flop),
        cell(input, flop),
        cell(weights, flop),
        cell(input + weights, 2.0 * flop)
    );
}
