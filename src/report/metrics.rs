//! `metrics.jsonl`, read in one pass and kept small: a curve has at most some hundred points however long a run is.
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::train::ClassDice;

/// Bytes of a line; a validation of ten thousand classes has less.
const MAX_LINE: u64 = 1 << 20;
/// Points of a curve, beyond which two become one.
const POINTS: usize = 600;
/// Validations that are kept.
const VALIDATIONS: usize = 5_000;

/// What the steps and validations of a run say.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The last step there is a line of.
    pub step: u64,
    /// Lines of steps.
    pub lines: u64,
    /// Loss and learning rate over steps.
    pub points: Vec<Point>,
    /// Of all steps together.
    pub seconds: f64,
    /// The most of any step, in bytes.
    pub peak_bytes: Option<u64>,
    /// The most that the process held.
    pub run_peak_bytes: Option<u64>,
    /// Steps without an update, since the gradient overflowed.
    pub skipped: u64,
    /// In order; further ones than 5000 are left out.
    pub validations: Vec<Validation>,
    /// Steps of a point.
    per_point: u64,
}

/// Some steps in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub first: u64,
    pub last: u64,
    count: u64,
    loss: f64,
    learning_rate: f64,
}

impl Point {
    /// Mean over its steps.
    pub fn loss(&self) -> f64 {
        self.loss / self.count as f64
    }

    pub fn learning_rate(&self) -> f64 {
        self.learning_rate / self.count as f64
    }

    pub fn middle(&self) -> f64 {
        (self.first as f64 + self.last as f64) / 2.0
    }
}

/// A look at held-out cases.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Complete steps.
    pub step: u64,
    /// Mean over classes; none where nothing is defined.
    pub mean_dice: Option<f64>,
    /// By label value.
    pub classes: Vec<ClassDice>,
    /// Cases that were looked at; 0 where the line does not say.
    pub cases: u64,
}

#[derive(Deserialize)]
struct Line {
    step: u64,
    loss: Option<f64>,
    learning_rate: Option<f64>,
    seconds: Option<f64>,
    peak_bytes: Option<u64>,
    run_peak_bytes: Option<u64>,
    #[serde(default)]
    skipped: bool,
    dice: Option<Vec<ClassDice>>,
    mean_dice: Option<f64>,
    validation_cases: Option<u64>,
}

impl Metrics {
    /// Of a run folder; empty where the first step is still to come.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => Self::of(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn of(mut lines: impl BufRead) -> io::Result<Self> {
        let mut metrics = Self { per_point: 1, ..Self::default() };
        let mut line = Vec::new();
        let mut inside = false;
        loop {
            line.clear();
            if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(metrics);
            }
            let whole = !inside;
            inside = !line.ends_with(b"\n");
            // A line cut short by the death of a process is none, and neither is one without end.
            if whole && let Ok(line) = serde_json::from_slice::<Line>(&line) {
                metrics.add(line);
            }
        }
    }

    fn add(&mut self, line: Line) {
        if let Some(classes) = line.dice {
            if self.validations.len() < VALIDATIONS {
                let (step, mean_dice, cases) = (line.step, line.mean_dice, line.validation_cases.unwrap_or(0));
                self.validations.push(Validation { step, mean_dice, classes, cases });
            }
            return;
        }
        let Some(loss) = line.loss else { return };
        self.lines += 1;
        self.step = self.step.max(line.step);
        self.seconds += line.seconds.unwrap_or(0.0);
        self.peak_bytes = self.peak_bytes.max(line.peak_bytes);
        self.run_peak_bytes = self.run_peak_bytes.max(line.run_peak_bytes);
        self.skipped += u64::from(line.skipped);
        let learning_rate = line.learning_rate.unwrap_or(0.0);
        match self.points.last_mut().filter(|point| point.count < self.per_point) {
            Some(point) => {
                point.last = line.step;
                point.count += 1;
                point.loss += loss;
                point.learning_rate += learning_rate;
            }
            None => {
                self.points.push(Point { first: line.step, last: line.step, count: 1, loss, learning_rate });
                if self.points.len() > POINTS {
                    self.halve();
                }
            }
        }
    }

    fn halve(&mut self) {
        self.per_point = self.per_point.saturating_mul(2);
        let merged = self.points.chunks(2).map(|pair| match pair {
            [a, b] => Point {
                first: a.first,
                last: b.last,
                count: a.count + b.count,
                loss: a.loss + b.loss,
                learning_rate: a.learning_rate + b.learning_rate,
            },
            one => one[0].clone(),
        });
        self.points = merged.collect();
    }

    /// Mean over the steps that there are lines of.
    pub fn seconds_per_step(&self) -> Option<f64> {
        (self.lines > 0).then(|| self.seconds / self.lines as f64)
    }

    /// Steps that a point stands for.
    pub fn per_point(&self) -> u64 {
        self.per_point
    }

    /// The highest mean Dice and its step.
    pub fn best(&self) -> Option<(f64, u64)> {
        let means = self.validations.iter().filter_map(|validation| Some((validation.mean_dice?, validation.step)));
        // The first of equals, as `best` is kept.
        means.reduce(|best, other| if other.0 > best.0 { other } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_few_points_and_their_means() {
        let mut text = String::new();
        for step in 1..=5000u64 {
            text += &format!("{{\"step\":{step},\"loss\":{},\"learning_rate\":0.01,\"seconds\":0.5}}\n", step);
        }
        text += "{\"step\":5000,\"dice\":[{\"class\":1,\"name\":\"a\",\"dice\":0.5}],\"mean_dice\":0.5}\n{\"step\":50";
        let metrics = Metrics::of(text.as_bytes()).unwrap();
        assert_eq!((metrics.step, metrics.lines, metrics.validations.len()), (5000, 5000, 1));
        assert!(metrics.points.len() <= POINTS && metrics.points.len() > POINTS / 4, "{}", metrics.points.len());
        assert_eq!(metrics.points.iter().map(|point| point.count).sum::<u64>(), 5000);
        // The loss is the step: a point's mean is its middle.
        assert!(metrics.points.iter().all(|point| (point.loss() - point.middle()).abs() < 1e-9));
        assert_eq!((metrics.seconds_per_step(), metrics.best()), (Some(0.5), Some((0.5, 5000))));
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let mut bytes = b"\xff\xfe\n{}\n{\"step\":-1,\"loss\":1}\n".to_vec();
        bytes.extend(vec![b'{'; 3 << 20]);
        bytes.extend(b"\n{\"step\":7,\"loss\":1.5}\n{\"step\":8,\"loss\":null}\n");
        let metrics = Metrics::of(bytes.as_slice()).unwrap();
        assert_eq!((metrics.step, metrics.lines), (7, 1));
    }
}
