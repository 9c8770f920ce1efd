//! Ellipsoids and tubes, and how far a point is from their surface.

/// A point in the body: from -1 to 1 along x, y and z of the volume.
pub type Point = [f64; 3];

/// What an anatomy is put together from.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Semi-axes in the units of [`Point`]; turned about z by the angle whose cosine and sine are given.
    Ellipsoid { centre: Point, radii: Point, turn: (f64, f64) },
    /// Winds along one axis: the middle of the other two swings by `swing` sin(`frequency` t + `phase`).
    Tube { axis: usize, centre: Point, swing: [f64; 2], frequency: f64, phase: f64, radius: f64 },
}

impl Shape {
    /// Distance in voxels from the surface, negative inside, to first order; `half` is half the volume's size, voxels.
    pub fn distance(&self, point: Point, half: Point) -> f64 {
        match self {
            Self::Ellipsoid { centre, radii, turn } => {
                let [x, y, z]: Point = std::array::from_fn(|axis| point[axis] - centre[axis]);
                let (cos, sin) = *turn;
                let inside = [(cos * x + sin * y) / radii[0], (cos * y - sin * x) / radii[1], z / radii[2]];
                let length = norm(inside);
                if length == 0.0 {
                    return f64::NEG_INFINITY;
                }
                // gradient of the length, in voxels
                let [a, b, c] = [inside[0] / radii[0], inside[1] / radii[1], inside[2] / radii[2]];
                let slope = norm([(cos * a - sin * b) / half[0], (sin * a + cos * b) / half[1], c / half[2]]) / length;
                (length - 1.0) / slope
            }
            Self::Tube { axis, centre, swing, frequency, phase, radius } => {
                let (first, second) = ((axis + 1) % 3, (axis + 2) % 3);
                let angle = frequency * point[*axis] + phase;
                let across = [
                    (point[first] - centre[first] - swing[0] * libm::sin(angle)) * half[first],
                    (point[second] - centre[second] - swing[1] * libm::cos(angle)) * half[second],
                ];
                (across[0] * across[0] + across[1] * across[1]).sqrt() - radius * mean(half)
            }
        }
    }

    /// The middle, in the units of [`Point`].
    pub fn centre(&self) -> Point {
        match self {
            Self::Ellipsoid { centre, .. } | Self::Tube { centre, .. } => *centre,
        }
    }

    /// How far an ellipsoid reaches from its middle along a direction of length 1 (its support function), in the units
    /// of [`Point`]: two of them do not touch where both reaches along the line between them are less than it. A
    /// tube's radius.
    pub fn reach(&self, [x, y, z]: Point) -> f64 {
        match self {
            Self::Ellipsoid { radii, turn: (cos, sin), .. } => {
                norm([(cos * x + sin * y) * radii[0], (cos * y - sin * x) * radii[1], z * radii[2]])
            }
            Self::Tube { radius, .. } => *radius,
        }
    }

    /// The same ellipsoid, smaller by `factor`; a tube thinner by it.
    pub fn scaled(&self, factor: f64) -> Self {
        match self.clone() {
            Self::Ellipsoid { centre, radii, turn } => {
                Self::Ellipsoid { centre, radii: radii.map(|radius| radius * factor), turn }
            }
            Self::Tube { axis, centre, swing, frequency, phase, radius } => {
                Self::Tube { axis, centre, swing, frequency, phase, radius: radius * factor }
            }
        }
    }
}

pub fn norm([x, y, z]: Point) -> f64 {
    (x * x + y * y + z * z).sqrt()
}

fn mean([x, y, z]: Point) -> f64 {
    (x + y + z) / 3.0
}
