use super::*;
#[test]
#[ignore = "prints speeds"]
fn speed() {
    run::<f32>("f32");
    run::<half::bf16>("bf16");
}
fn run<E: Element>(name: &str) {
    for (i, o, s) in [
        (1, 32, 64),
        (32, 32, 64),
        (32, 64, 32),
        (64, 64, 32),
        (128, 128, 16),
        (256, 256, 8),
        (320, 320, 4),
        (64, 32, 64),
    ] {
        let shape =
            ConvShape { batch: 1, in_channels: i, out_channels: o, size: [s; 3], kernel: [3; 3], stride: [1; 3] };
        let v = |n: usize| (0..n).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect::<Vec<_>>();
        let e = |n: usize| v(n).into_iter().map(E::from_f32).collect::<Vec<_>>();
        let input = e(i * s * s * s);
        let gradient = e(o * s * s * s);
        let weights = v(shape.weights());
        let bias = vec![0.0; o];
        let mut out = e(o * s * s * s);
        let mut back = e(i * s * s * s);
        let (mut w, mut b) = (vec![0.0; shape.weights()], vec![0.0; o]);
        let isa = Isa::detected();
        let flop = 2.0 * (shape.weights() * s * s * s) as f64;
        let time = |f: &mut dyn FnMut()| {
            f();
            (0..7)
                .map(|_| {
                    let start = std::time::Instant::now();
                    f();
                    start.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min)
        };
        let part = [Part { values: &input[..], channels: i, maps: None }];
        let f = time(&mut || forward(isa, &shape, &part, &weights, Some(&bias), &mut out));
        let g = time(&mut || {
            input_gradient(
                isa,
                &shape,
                &[Part { values: &gradient[..], channels: o, maps: None }],
                &weights,
                None,
                &mut [PartMut { values: &mut back, channels: i }],
            )
        });
        let h = time(&mut || {
            weight::add(isa, &shape, &part, &[Part { values: &gradient[..], channels: o, maps: None }], &mut w)
        });
        let k = time(&mut || super::super::reduce::add_channel_sums(1, o, &gradient, &mut b));
        println!(
            "{name} {i}->{o} at {s}: forward {:.0}, input {:.0}, weight {:.0} GFLOP/s, bias {:.2} ms of {:.2}",
            flop / f / 1e9,
            flop / g / 1e9,
            flop / h / 1e9,
            k * 1e3,
            h * 1e3
        );
    }
}
