//! Small plots: how one thing grows with another, both in powers of ten.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::report::number;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plot {
    /// What the file is called.
    pub name: String,
    pub title: String,
    pub x: String,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

/// One direction of the plot: from which power of ten to which, and where on the page.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values.fold(0.0, f64::max).log10().ceil();
        Self { low, high: high.max(low + 1.0), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

impl Plot {
    /// Writes it below `folder`, and returns the file's name there.
    pub fn write(&self, folder: &Path) -> String {
        let name = format!("benchmarks/{}.svg", self.name);
        fs::create_dir_all(folder.join("benchmarks")).unwrap();
        fs::write(folder.join(&name), self.svg()).unwrap();
        name
    }

    fn svg(&self) -> String {
        let points: Vec<(f64, f64)> = self.points.iter().copied().filter(|(x, y)| *x > 0.0 && *y > 0.0).collect();
        let x = Axis::new(points.iter().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::new(points.iter().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"11\" fill=\"#444\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
            self.title
        );
        for power in x.powers() {
            let at = x.at(power);
            let (bottom, label) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 14.0);
            let _ = writeln!(
                text,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{label}\" \
                 text-anchor=\"middle\">{}</text>",
                number(power)
            );
        }
        for power in y.powers() {
            let at = y.at(power);
            let (right, label) = (WIDTH - RIGHT, at + 4.0);
            let _ = writeln!(
                text,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{label:.1}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                number(power)
            );
        }
        let places: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x.at(*a), y.at(*b))).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#c60\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        for (a, b) in &points {
            let _ = writeln!(
                text,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#c60\"><title>{} → {}</title></circle>",
                x.at(*a),
                y.at(*b),
                number(*a),
                number(*b)
            );
        }
        let _ = write!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n</svg>\n",
            WIDTH - RIGHT,
            HEIGHT - 8.0,
            self.x
        );
        text
    }
}
