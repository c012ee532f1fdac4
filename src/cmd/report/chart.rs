//! Charts as SVG: no script, no style of their own; colours are classes of the page, so that they follow its scheme.

use std::fmt::Write as _;

use crate::model::Timestamp;

use super::histogram::Bars;
use super::words;

/// The picture, in its own units.
const WIDTH: f64 = 960.0;
/// One of two that stand beside each other.
const HALF: f64 = 520.0;
const HEIGHT: f64 = 230.0;
/// Around the plot.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Lines across the plot.
const LINES: f64 = 4.0;
/// Labels below it.
const LABELS: usize = 8;
/// Height of a lane.
const LANE: f64 = 24.0;
/// Width of the names of lanes.
const LANE_NAMES: f64 = 180.0;
/// The least that can be seen.
const LEAST: f64 = 1.5;

/// How much of the page's width a chart has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breadth {
    /// All of it.
    Whole,
    /// Half of it.
    Half,
}

impl Breadth {
    fn units(self) -> f64 {
        match self {
            Self::Whole => WIDTH,
            Self::Half => HALF,
        }
    }
}

/// What is stacked in each bar.
pub(super) struct Layer {
    /// The class of its colour.
    pub(super) class: String,
    /// In words.
    pub(super) name: String,
    /// One value per bar.
    pub(super) values: Vec<f64>,
}

/// How a bar chart is drawn.
pub(super) struct Frame<'a> {
    /// What it shows.
    pub(super) title: &'a str,
    /// How broad it is.
    pub(super) breadth: Breadth,
    /// The least value that the axis ends at.
    pub(super) least: f64,
}

/// A stacked bar chart. `tell` writes a value for people.
pub(super) fn bars<T>(frame: &Frame<'_>, span: &Bars<T>, layers: &[Layer], tell: impl Fn(f64) -> String) -> String {
    let broad = frame.breadth.units();
    let count = span.values.len();
    let sums: Vec<f64> = (0..count).map(|bar| layers.iter().map(|layer| layer.values[bar]).sum()).collect();
    let top = nice(sums.iter().copied().fold(frame.least, f64::max));
    let mut svg = open(frame.title, broad, HEIGHT);
    let plot = HEIGHT - TOP - BOTTOM;
    for line in 0..=LINES as u32 {
        let value = top * f64::from(line) / LINES;
        let y = TOP + plot - plot * f64::from(line) / LINES;
        // Writing to a String cannot fail.
        _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            broad - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            tell(value)
        );
    }
    let step = (broad - LEFT - RIGHT) / count as f64;
    // A single bar as broad as the plot would look like a wall.
    let width = (step * 0.8).min(48.0);
    for (bar, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
        let x = LEFT + step * bar as f64 + (step - width) / 2.0;
        let mut told = format!("{} UTC: {}", label(span.begins(bar), span.width, true), tell(*sum));
        let mut y = TOP + plot;
        let mut rects = String::new();
        for layer in layers.iter().filter(|layer| layer.values[bar] > 0.0) {
            let height = (layer.values[bar] / top * plot).max(LEAST).min(y - TOP);
            y -= height;
            if layers.len() > 1 {
                // Writing to a String cannot fail.
                _ = write!(told, "\n{} {}", layer.name, tell(layer.values[bar]));
            }
            let class = &layer.class;
            // Writing to a String cannot fail.
            _ = write!(
                rects,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            );
        }
        // Writing to a String cannot fail.
        _ = write!(svg, "<g><title>{told}</title>{rects}</g>");
    }
    let labels = if frame.breadth == Breadth::Half { LABELS / 2 } else { LABELS };
    let every = count.div_ceil(labels).max(1);
    for bar in (0..count).step_by(every) {
        let x = LEFT + step * (bar as f64 + 0.5);
        // Writing to a String cannot fail.
        _ = write!(
            svg,
            "<text class=\"tick middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            HEIGHT - 10.0,
            label(span.begins(bar), span.width, false)
        );
    }
    svg + "</svg></div>\n"
}

/// Spans of time of one name.
pub(super) struct Lane {
    /// The name, as HTML.
    pub(super) name: String,
    /// From when to when.
    pub(super) spans: Vec<(Timestamp, Timestamp)>,
}

/// Lanes of spans on one axis.
pub(super) fn lanes(lanes: &[Lane], start: Timestamp, end: Timestamp) -> String {
    let seconds = |time: Timestamp| time.unix_micros() as f64 / 1e6;
    let (first, last) = (seconds(start), seconds(end).max(seconds(start) + 1.0));
    let place = |time: Timestamp| {
        let share = ((seconds(time) - first) / (last - first)).clamp(0.0, 1.0);
        LANE_NAMES + share * (WIDTH - LANE_NAMES - RIGHT)
    };
    let plot = LANE * lanes.len() as f64;
    let mut svg = open("When breakers were open", WIDTH, TOP + plot + BOTTOM);
    for (at, lane) in lanes.iter().enumerate() {
        let y = TOP + LANE * at as f64;
        // Writing to a String cannot fail.
        _ = write!(
            svg,
            "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>\
             <line class=\"grid\" x1=\"{LANE_NAMES}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            LANE_NAMES - 10.0,
            y + 16.0,
            lane.name,
            WIDTH - RIGHT,
            y + LANE,
            y + LANE
        );
        for (from, to) in &lane.spans {
            let (x, to_x) = (place(*from), place(*to));
            let width = (to_x - x).max(LEAST);
            // Writing to a String cannot fail.
            _ = write!(
                svg,
                "<rect class=\"open\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\"><title>{} to {}</title></rect>",
                y + 4.0,
                LANE - 8.0,
                words::time(*from),
                words::time(*to)
            );
        }
    }
    for (share, class) in [(0.0, "tick"), (0.5, "tick middle"), (1.0, "tick end")] {
        let moment = (first + (last - first) * share) as i64;
        let x = LANE_NAMES + share * (WIDTH - LANE_NAMES - RIGHT);
        let width = ((last - first) as i64) / 60;
        // Writing to a String cannot fail.
        _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            TOP + plot + 20.0,
            label(moment, width, true)
        );
    }
    svg + "</svg></div>\n"
}

fn open(title: &str, width: f64, height: f64) -> String {
    format!(
        "<div class=\"wide\"><svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">"
    )
}

/// A moment on an axis whose steps are that wide.
fn label(seconds: i64, width: i64, long: bool) -> String {
    let format = match (width, long) {
        (86_400.., true) => "%Y-%m-%d",
        (_, true) => "%Y-%m-%d %H:%M",
        (..3600, false) => "%H:%M",
        (3600..86_400, false) => "%d %b %H:%M",
        (86_400..31_536_000, false) => "%d %b",
        _ => "%Y",
    };
    words::moment(seconds, format)
}

/// The next value of 1.2, 2, 4, 8 or 12 times a power of ten: a quarter of it is a round figure too.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return LINES;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.2, 2.0, 4.0, 8.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(12.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_figure_that_holds_the_largest_value() {
        assert_eq!([0.0, 1.0, 3.0, 4.1, 99.0, 1e9].map(nice), [4.0, 1.2, 4.0, 8.0, 120.0, 1.2e9]);
        assert_eq!(nice(f64::INFINITY), 4.0);
    }
}
