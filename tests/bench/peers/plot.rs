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
    /// What grows.
    pub x: String,
    /// What is measured, with its unit.
    #[serde(default)]
    pub y: String,
    /// All of them finite and above zero.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;

/// Colours for pages that are light, and for those that are dark.
const STYLE: &str = "\
.ground{fill:#fff}text{fill:#333}.rule{stroke:#ddd}.fine{stroke:#eee}.measured{stroke:#b4530a}.dot{fill:#b4530a}
.proportion{stroke:#888;stroke-dasharray:4 4}
@media(prefers-color-scheme:dark){.ground{fill:#16191d}text{fill:#ccc}.rule{stroke:#3a3f45}.fine{stroke:#262a2f}
.measured{stroke:#f0a050}.dot{fill:#f0a050}}";

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

    /// What is between the powers; labelled where there is room for that.
    fn between(&self) -> impl Iterator<Item = (f64, bool)> + use<> {
        let (roomy, powers) = (self.high - self.low <= 2.0, self.low as i32..self.high as i32);
        powers.flat_map(move |power| {
            (2..10).map(move |part| (f64::from(part) * 10f64.powi(power), roomy && matches!(part, 2 | 5)))
        })
    }

    /// The highest value.
    fn top(&self) -> f64 {
        10f64.powf(self.high)
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
        let points = &self.points;
        let x = Axis::new(points.iter().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::new(points.iter().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{title}</text>\n",
            title = self.title
        );
        grid(&mut text, &x, &y);
        if let Some(first) = points.first() {
            proportion(&mut text, *first, &x, &y);
        }
        let places: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x.at(*a), y.at(*b))).collect();
        let _ = writeln!(
            text,
            "<polyline class=\"measured\" points=\"{}\" fill=\"none\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        for (at, (a, b)) in points.iter().enumerate() {
            let (across, down) = (x.at(*a), y.at(*b));
            // The first and the last stand at the edges, where the labels of the axis are.
            let anchor = match at {
                0 => "start",
                _ if at + 1 == points.len() => "end",
                _ => "middle",
            };
            let _ = writeln!(
                text,
                "<circle class=\"dot\" cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"3\"/>\
                 <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                down - 7.0,
                number(*b)
            );
        }
        let (middle, height) = (f64::midpoint(LEFT, WIDTH - RIGHT), f64::midpoint(TOP, HEIGHT - BOTTOM));
        let _ = write!(
            text,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {height}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n</svg>\n",
            HEIGHT - 10.0,
            self.x,
            self.y
        );
        text
    }
}

/// Lines for both axes, with what they stand for.
fn grid(text: &mut String, x: &Axis, y: &Axis) {
    let down = |text: &mut String, class: &str, value: f64| {
        let (at, bottom) = (x.at(value), HEIGHT - BOTTOM);
        let _ = writeln!(text, "<path class=\"{class}\" d=\"M{at:.1} {TOP}V{bottom}\"/>");
    };
    let across = |text: &mut String, class: &str, value: f64| {
        let (at, right) = (y.at(value), WIDTH - RIGHT);
        let _ = writeln!(text, "<path class=\"{class}\" d=\"M{LEFT} {at:.1}H{right}\"/>");
    };
    x.between().for_each(|(value, _)| down(text, "fine", value));
    y.between().for_each(|(value, _)| across(text, "fine", value));
    x.powers().for_each(|value| down(text, "rule", value));
    y.powers().for_each(|value| across(text, "rule", value));
    let labelled = |axis: &Axis| {
        let between = axis.between().filter_map(|(value, labelled)| labelled.then_some(value));
        axis.powers().chain(between).collect::<Vec<_>>()
    };
    for value in labelled(x) {
        let (at, below) = (x.at(value), HEIGHT - BOTTOM + 15.0);
        let _ = writeln!(text, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", round(value));
    }
    for value in labelled(y) {
        let (before, at) = (LEFT - 6.0, y.at(value) + 4.0);
        let _ = writeln!(text, "<text x=\"{before}\" y=\"{at:.1}\" text-anchor=\"end\">{}</text>", round(value));
    }
}

/// Where it would be if it grew in proportion from the first point on, as far as that can be seen.
fn proportion(text: &mut String, (first, from): (f64, f64), x: &Axis, y: &Axis) {
    let end = x.top().min(first * y.top() / from);
    let _ = writeln!(
        text,
        "<path class=\"proportion\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
        x.at(first),
        y.at(from),
        x.at(end),
        y.at(from * end / first)
    );
}

/// A round number, as short as it can be.
fn round(value: f64) -> String {
    let (scaled, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // What a power of ten is off by is not shown.
    let digits = usize::try_from(-scaled.log10().floor() as i32).unwrap_or(0);
    format!("{scaled:.digits$}{unit}")
}
