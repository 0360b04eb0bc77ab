//! Curves on logarithmic axes, as SVG, and the exponent that fits one.
//!
//! Needs `std` alone, because benches include this file by its path.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 270.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLORS: [&str; 6] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b",
];
const DASHES: [&str; 3] = ["none", "6 3", "2 3"];

/// One curve and what it is called. Points have coordinates above 0.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot of curves, both axes in powers of ten.
pub(crate) fn svg(title: &str, axes: [&str; 2], curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let (left, right) = powers(points().map(|point| point.0));
    let (low, high) = powers(points().map(|point| point.1));
    let x = |value: f64| LEFT + (value.log10() - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut out, [LEFT, 24.0], "start", title);
    for power in left as i32..=right as i32 {
        let at = x(10f64.powi(power));
        line(&mut out, [at, TOP, at, HEIGHT - BOTTOM]);
        let label = format!("10^{power}");
        text(&mut out, [at, HEIGHT - BOTTOM + 18.0], "middle", &label);
    }
    for power in low as i32..=high as i32 {
        let value = 10f64.powi(power);
        line(&mut out, [LEFT, y(value), WIDTH - RIGHT, y(value)]);
        let label = value.to_string();
        text(&mut out, [LEFT - 6.0, y(value) + 4.0], "end", &label);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(&mut out, [middle, HEIGHT - 12.0], "middle", axes[0]);
    text(&mut out, [LEFT - 6.0, TOP - 6.0], "end", axes[1]);
    for (nth, curve) in curves.iter().enumerate() {
        let color = COLORS[nth % COLORS.len()];
        let dash = DASHES[nth / COLORS.len() % DASHES.len()];
        let placed: Vec<[f64; 2]> = curve.points.iter().map(|&(a, b)| [x(a), y(b)]).collect();
        draw(&mut out, &placed, color, dash);
        let (legend, at) = (WIDTH - RIGHT + 12.0, TOP + 16.0 * nth as f64 + 8.0);
        draw(&mut out, &[[legend, at], [legend + 24.0, at]], color, dash);
        text(&mut out, [legend + 30.0, at + 4.0], "start", &curve.name);
    }
    out.push_str("</svg>\n");
    out
}

/// The slope of the least squares line through the logarithms: 1 where `y` grows as `x` does.
/// `None` for fewer than two different `x`.
pub(crate) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs = points.iter().map(|&(x, y)| (x.ln(), y.max(1e-9).ln()));
    let logs: Vec<(f64, f64)> = logs.collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / logs.len() as f64;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let variance: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

/// The whole powers of ten around some values, as logarithms.
fn powers(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let low = low.log10().floor();
    (low, high.log10().ceil().max(low + 1.0))
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>"
    );
}

fn text(out: &mut String, [x, y]: [f64; 2], anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn draw(out: &mut String, points: &[[f64; 2]], color: &str, dash: &str) {
    let list: Vec<String> = points
        .iter()
        .map(|[x, y]| format!("{x:.1},{y:.1}"))
        .collect();
    let list = list.join(" ");
    let _ = writeln!(
        out,
        "<polyline points=\"{list}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dash}\"/>"
    );
    for [x, y] in points {
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>"
        );
    }
}
