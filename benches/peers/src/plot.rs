//! A plot of searches a second against recall, as SVG.

use std::fmt::Write;

use crate::score::PeerResult;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Recall runs from here to here, on the logarithm of what is missed.
const RECALLS: [f64; 7] = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
const COLORS: [&str; 8] = [
    "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
];
const DASHES: [&str; 2] = ["", "5 3"];

/// The plot: one line a peer, one thread.
pub(crate) fn svg(title: &str, results: &[PeerResult]) -> String {
    let rates = || results.iter().flat_map(|r| &r.points).map(|p| p.qps[0]);
    let low = rates().fold(f64::MAX, f64::min).clamp(1.0, 1e9).log10();
    let high = rates().fold(1.0, f64::max).log10();
    let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
    let x = |recall: f64| {
        let (first, last) = (missed(RECALLS[0]), missed(RECALLS[RECALLS.len() - 1]));
        let part = (missed(recall) - first) / (last - first);
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let y = |qps: f64| {
        let part = (qps.max(1.0).log10() - low) / (high - low);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(
        &mut out,
        LEFT,
        24.0,
        "start",
        &format!("{}: searches a second, one thread", escape(title)),
    );
    for recall in RECALLS {
        line(&mut out, [x(recall), TOP, x(recall), HEIGHT - BOTTOM]);
        text(
            &mut out,
            x(recall),
            HEIGHT - BOTTOM + 18.0,
            "middle",
            &recall.to_string(),
        );
    }
    for power in low as i32..=high as i32 {
        let rate = 10f64.powi(power);
        line(&mut out, [LEFT, y(rate), WIDTH - RIGHT, y(rate)]);
        text(
            &mut out,
            LEFT - 6.0,
            y(rate) + 4.0,
            "end",
            &rate.to_string(),
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(&mut out, middle, HEIGHT - 12.0, "middle", "recall@10");
    for (i, result) in results.iter().enumerate() {
        let shown = result.points.iter().filter(|p| p.recall >= RECALLS[0]);
        let points: Vec<[f64; 2]> = shown.map(|p| [x(p.recall), y(p.qps[0])]).collect();
        let (color, dash) = (
            COLORS[i % COLORS.len()],
            DASHES[i / COLORS.len() % DASHES.len()],
        );
        let at = TOP + 16.0 * i as f64 + 8.0;
        let legend = WIDTH - RIGHT + 12.0;
        curve(&mut out, &points, color, dash);
        curve(&mut out, &[[legend, at], [legend + 24.0, at]], color, dash);
        text(
            &mut out,
            legend + 30.0,
            at + 4.0,
            "start",
            &escape(&result.peer),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn missed(recall: f64) -> f64 {
    -(1.0 - recall).max(1e-9).log10()
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn curve(out: &mut String, points: &[[f64; 2]], color: &str, dash: &str) {
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
