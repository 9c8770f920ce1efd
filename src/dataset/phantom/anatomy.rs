//! Where the parts of one body are, and what they are made of.
use super::PhantomOptions;
use super::draw::Draw;
use super::shape::{Point, Shape, norm};

/// Classes 1, 2, ...
pub const NAMES: [&str; 8] = ["liver", "kidney", "bladder", "spleen", "pancreas", "stomach", "heart", "thymus"];

/// What a part is made of; how bright that is depends on the modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tissue {
    Air,
    /// What fills the body between its parts.
    Soft,
    Bright,
    Dark,
    Bone,
}
use Tissue::{Air, Bone, Bright, Dark, Soft};

/// How an organ looks: made of the first, with a core of the second, and its size relative to the others.
struct Look {
    tissue: Tissue,
    core: Tissue,
    size: f64,
    /// Relative lengths along x, y, z.
    form: Point,
}

/// In order of [`NAMES`]. No two look the same mirrored, so that what tells classes apart survives augmentation.
const LOOKS: [Look; NAMES.len()] = [
    Look { tissue: Bright, core: Bright, size: 1.05, form: [1.05, 1.0, 0.95] },
    Look { tissue: Bright, core: Dark, size: 1.0, form: [0.95, 1.0, 1.05] },
    Look { tissue: Dark, core: Dark, size: 0.95, form: [1.0, 0.95, 1.0] },
    Look { tissue: Dark, core: Bright, size: 1.0, form: [1.0, 1.0, 1.0] },
    Look { tissue: Bright, core: Soft, size: 1.0, form: [0.95, 1.05, 1.0] },
    Look { tissue: Dark, core: Soft, size: 1.0, form: [1.05, 0.95, 1.0] },
    Look { tissue: Bright, core: Bone, size: 1.0, form: [1.0, 0.85, 1.15] },
    Look { tissue: Bright, core: Bright, size: 0.8, form: [0.7, 0.9, 1.4] },
];

/// A core's share of the organ's length.
const CORE: f64 = 0.52;
/// Share of the body's radius that the bright rim takes.
const RIM: f64 = 0.11;
/// Share of the volume's half size that the smallest body's radius takes.
const SMALLEST: f64 = 0.92;
/// Between two organs, and between an organ and the rim, where they come closest; as a share of half the volume.
const GAP: f64 = 0.05;
/// Voxels of soft tissue around every organ, so that nothing of its own brightness touches it.
const CAPSULE: f64 = 1.5;

/// One body.
pub struct Anatomy {
    /// Half the volume's size in voxels, x, y, z.
    half: Point,
    body: Shape,
    inner: Shape,
    /// One per class: its surface, its core, what both are made of.
    organs: Vec<(Shape, Shape, Tissue, Tissue)>,
    /// Parts without a label, the first found at a point is what is there.
    others: Vec<(Shape, Tissue)>,
    shift: Point,
    /// Cosine and sine of the turns about x and about z.
    turns: [(f64, f64); 2],
    /// Phases of the bending, per axis.
    bend: Point,
}

impl Anatomy {
    pub fn draw(options: &PhantomOptions, case: u64) -> Self {
        let mut draw = Draw::new(options.seed, "phantom anatomy", case, 0);
        let half = options.size.map(|size| size as f64 / 2.0);
        let angle = |radians: f64| (libm::cos(radians), libm::sin(radians));
        let scale = draw.between(SMALLEST, SMALLEST + 0.04);
        let body = Shape::Ellipsoid {
            centre: [0.0; 3],
            radii: [scale, scale * draw.between(0.97, 1.0), scale * draw.between(0.97, 1.03)],
            turn: (1.0, 0.0),
        };
        let shift = [draw.around(0.02), draw.around(0.02), draw.around(0.02)];
        let turns = [angle(draw.around(0.12)), angle(draw.around(0.2))];
        let bend = [draw.between(0.0, 6.0), draw.between(0.0, 6.0), draw.between(0.0, 6.0)];
        let organs = organs(&mut draw, options.classes);
        let others = others(&mut draw);
        Self { half, inner: body.scaled(1.0 - RIM), body, organs, others, shift, turns, bend }
    }

    /// Label of a voxel (x, y, z).
    pub fn label(&self, voxel: [usize; 3]) -> u8 {
        let point = self.point(voxel);
        let inside = |(shape, ..): &(Shape, Shape, Tissue, Tissue)| shape.distance(point, self.half) < 0.0;
        self.organs.iter().position(inside).map_or(0, |organ| organ as u8 + 1)
    }

    /// What a voxel (x, y, z) holds: two tissues and the share of the second, where a surface runs through it.
    pub fn tissue(&self, voxel: [usize; 3]) -> (Tissue, Tissue, f64) {
        let point = self.point(voxel);
        let share = |distance: f64| (0.5 - distance).clamp(0.0, 1.0);
        let distance = |shape: &Shape| shape.distance(point, self.half);
        let body = distance(&self.body);
        if body > -0.5 {
            return (Air, Bright, share(body));
        }
        let mut nearest = f64::INFINITY;
        for (surface, core, tissue, inner) in &self.organs {
            let outside = distance(surface);
            if outside < 0.5 {
                let core = distance(core);
                return if core < 0.5 && outside < -0.5 {
                    (*tissue, *inner, share(core))
                } else {
                    (Soft, *tissue, share(outside))
                };
            }
            nearest = nearest.min(outside);
        }
        let inner = distance(&self.inner);
        let found = if inner > -0.5 {
            (Bright, Soft, share(inner))
        } else {
            let part = self.others.iter().find_map(|(shape, tissue)| {
                let distance = distance(shape);
                (distance < 0.5).then(|| (Soft, *tissue, share(distance)))
            });
            part.unwrap_or((Soft, Soft, 0.0))
        };
        if nearest < CAPSULE { (Soft, Soft, 0.0) } else { found }
    }

    /// Where in the unbent, unturned body a voxel is.
    fn point(&self, voxel: [usize; 3]) -> Point {
        let [x, y, z]: Point =
            std::array::from_fn(|axis| (voxel[axis] as f64 + 0.5) / self.half[axis] - 1.0 - self.shift[axis]);
        let (cos, sin) = self.turns[0];
        let (y, z) = (cos * y + sin * z, cos * z - sin * y);
        let (cos, sin) = self.turns[1];
        let (x, y) = (cos * x + sin * y, cos * y - sin * x);
        const BEND: f64 = 0.025;
        [
            x + BEND * libm::sin(3.0 * y + 2.0 * z + self.bend[0]),
            y + BEND * libm::sin(3.0 * z + 2.0 * x + self.bend[1]),
            z + BEND * libm::sin(3.0 * x + 2.0 * y + self.bend[2]),
        ]
    }
}

/// Organs on an arc around the front of the body, alternately high and low, shrunk until no two touch.
fn organs(draw: &mut Draw, classes: usize) -> Vec<(Shape, Shape, Tissue, Tissue)> {
    let mut placed: Vec<Shape> = Vec::with_capacity(classes);
    for (class, look) in LOOKS.iter().enumerate().take(classes) {
        let degrees = -75.0 + 330.0 * (class as f64 + 0.5) / classes as f64;
        let angle = (degrees + draw.around(6.0)).to_radians();
        let ring = draw.between(0.39, 0.43);
        let height = match classes {
            1 => 0.0,
            2 | 3 => 0.1,
            _ => 0.06 * classes as f64 - 0.1,
        };
        let height = if class % 2 == 0 { height } else { -height };
        let centre = [ring * libm::cos(angle), ring * libm::sin(angle), height + draw.around(0.03)];
        let size = 0.37 * look.size * draw.between(0.94, 1.06);
        let radii = look.form.map(|length| size * length * draw.between(0.95, 1.05));
        let turn = draw.around(0.4);
        let organ = Shape::Ellipsoid { centre, radii, turn: (libm::cos(turn), libm::sin(turn)) };
        // a little must stay between the organ and the rim of the smallest body
        let away = norm(centre);
        let room = SMALLEST * (1.0 - RIM) - GAP - away;
        placed.push(organ.scaled((room / organ.reach(centre.map(|at| at / away))).min(1.0)));
    }
    let mut shrink: f64 = 1.0;
    for (index, organ) in placed.iter().enumerate() {
        for other in &placed[..index] {
            let between: Point = std::array::from_fn(|axis| organ.centre()[axis] - other.centre()[axis]);
            let apart = norm(between);
            let direction = between.map(|along| along / apart);
            shrink = shrink.min((apart - GAP) / (organ.reach(direction) + other.reach(direction)));
        }
    }
    let whole = placed.into_iter().map(|organ| organ.scaled(shrink));
    whole.zip(&LOOKS).map(|(whole, look)| (whole.clone(), whole.scaled(CORE), look.tissue, look.core)).collect()
}

/// Spine, muscles beside it, gut above and below the organs, vessels and nodules.
fn others(draw: &mut Draw) -> Vec<(Shape, Tissue)> {
    let mut parts = Vec::new();
    let mut tube = |draw: &mut Draw, axis: usize, centre: Point, swing: f64, radius: f64, tissue| {
        let centre = centre.map(|at| at + draw.around(0.03));
        let swing = [swing * draw.between(0.7, 1.3), swing * draw.between(0.7, 1.3)];
        let (frequency, phase) = (draw.between(4.0, 7.0), draw.between(0.0, 6.0));
        parts.push((Shape::Tube { axis, centre, swing, frequency, phase, radius }, tissue));
    };
    tube(draw, 2, [0.0, -0.55, 0.0], 0.02, 0.15, Bone);
    for side in [-1.0, 1.0] {
        tube(draw, 2, [side * 0.28, -0.6, 0.0], 0.02, 0.14, Dark);
        tube(draw, 0, [0.0, side * 0.3, -0.64], 0.05, 0.125, Dark);
        tube(draw, 1, [side * 0.22, 0.0, 0.64], 0.05, 0.125, Dark);
        tube(draw, 2, [side * 0.1, -0.2, 0.0], 0.05, 0.07, Bright);
    }
    for nodule in 0..14 {
        // spread evenly in what is left inside the rim
        let direction: Point = [draw.around(1.0), draw.around(1.0), draw.around(1.0)];
        let length = norm(direction).max(0.1);
        let away = draw.between(0.25, 0.72);
        let centre = direction.map(|along| along / length * away);
        let radius = draw.between(0.07, 0.11);
        let shape = Shape::Ellipsoid { centre, radii: [radius; 3], turn: (1.0, 0.0) };
        parts.push((shape, if nodule % 2 == 0 { Bright } else { Dark }));
    }
    parts
}
