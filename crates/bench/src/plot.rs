//! A bench report as a picture: one bar for each row, a line at the roof if it is known. SVG; its text needs no font of this machine.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::report::Report;

/// Pixels of the picture, of a bar, and from one bar to the next.
const WIDTH: i32 = 960;
const BAR: i32 = 15;
const PITCH: i32 = 23;
/// Room beside the bars: names on the left, values on the right; title, networks and roof above; axis below.
const LEFT: i32 = 150;
const RIGHT: i32 = 150;
const TOP: i32 = 112;
const BOTTOM: i32 = 56;

const INK: RGBColor = RGBColor(33, 37, 41);
const MUTED: RGBColor = RGBColor(108, 117, 125);
const GRID: RGBColor = RGBColor(226, 229, 233);
const ROOF: RGBColor = RGBColor(196, 43, 43);

/// One for each network, in turn.
const COLOURS: [RGBColor; 6] = [
    RGBColor(45, 108, 168),
    RGBColor(62, 142, 124),
    RGBColor(138, 103, 162),
    RGBColor(186, 126, 44),
    RGBColor(94, 112, 130),
    RGBColor(176, 92, 120),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The report as SVG: a bar for each row, with its name, its value and the percentage of its roof. The line is the
/// highest roof of the run; each percentage is of the roof measured around its row.
///
/// # Errors
/// [`Error::Plot`] if the report is empty or the drawing fails.
pub fn bars(report: &Report) -> Result<String> {
    let mut svg = String::new();
    let height = TOP + BOTTOM + PITCH * i32::try_from(report.rows.len()).unwrap_or(i32::MAX / PITCH / 2);
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    draw(&SVGBackend::with_string(&mut svg, size).into_drawing_area(), height, report)?;
    Ok(svg)
}

fn draw(canvas: &Canvas<'_>, height: i32, report: &Report) -> Result<()> {
    let first = report.rows.first().ok_or_else(|| Error::Plot("the report is empty".to_owned()))?;
    let highest = |value: fn(&crate::report::Row) -> f64| report.rows.iter().map(value).fold(0.0, f64::max);
    let roof = report.rows.iter().filter_map(|row| row.rate.roof()).reduce(f64::max);
    let (ticks, end) = axis(highest(|row| row.rate.value()).max(roof.unwrap_or(0.0)));
    let x = |value: f64| LEFT + (f64::from(WIDTH - LEFT - RIGHT) * value / end).round() as i32;
    let (top, bottom) = (TOP, height - BOTTOM);
    let unit = first.rate.unit();

    rectangle(canvas, [(0, 0), (WIDTH, height)], WHITE)?;
    text(canvas, &report.heading(), (LEFT, 16), 24, INK, HPos::Left)?;
    for (tick, label) in ticks {
        vertical(canvas, x(tick), top, bottom, GRID.into())?;
        text(canvas, &label, (x(tick), bottom + 6), 15, MUTED, HPos::Center)?;
    }
    text(canvas, unit, ((LEFT + WIDTH - RIGHT) / 2, bottom + 28), 16, INK, HPos::Center)?;

    let mut groups: Vec<&str> = Vec::new();
    for (row, y) in report.rows.iter().zip((top..).step_by(PITCH as usize)) {
        let group = row.label.group.as_str();
        let known = groups.iter().position(|&known| known == group);
        let group = known.unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        });
        let y = y + (PITCH - BAR) / 2;
        rectangle(canvas, [(LEFT, y), (x(row.rate.value()), y + BAR)], colour(group))?;
        text(canvas, &row.label.name, (LEFT - 8, y), 16, INK, HPos::Right)?;
        let value = format!("{:.1}", row.rate.value());
        text(canvas, &value, (WIDTH - RIGHT + 68, y), 15, INK, HPos::Right)?;
        if let Some(percent) = row.rate.percent() {
            text(canvas, &format!("{percent:.0}%"), (WIDTH - 24, y), 15, MUTED, HPos::Right)?;
        }
    }
    text(canvas, unit, (WIDTH - RIGHT + 68, top - 24), 15, INK, HPos::Right)?;

    let mut at = LEFT;
    for (i, group) in groups.iter().enumerate() {
        rectangle(canvas, [(at, 55), (at + 11, 66)], colour(i))?;
        text(canvas, group, (at + 17, 54), 15, MUTED, HPos::Left)?;
        // Letters of 15 pixels' height are about 8 wide.
        at += 36 + 8 * i32::try_from(group.len()).unwrap_or(0);
    }

    if let Some(roof) = roof {
        text(canvas, "of roof", (WIDTH - 24, top - 24), 15, MUTED, HPos::Right)?;
        vertical(canvas, x(roof), top - 6, bottom, ROOF.stroke_width(2))?;
        let name = format!("{} {roof:.0} {unit}", first.rate.roof_name());
        text(canvas, &name, (x(roof), top - 24), 15, ROOF, HPos::Right)?;
    }
    canvas.present().map_err(|e| Error::Plot(e.to_string()))
}

fn colour(group: usize) -> RGBColor {
    COLOURS[group % COLOURS.len()]
}

/// Round numbers from 0 to just past `highest`, 4 to 10 of them, with their labels; and the end of the axis.
fn axis(highest: f64) -> (Vec<(f64, String)>, f64) {
    let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
    let decade = 10f64.powf((highest / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|m| m * decade).into_iter().find(|s| highest / s >= 4.0).unwrap_or(decade);
    let decimals = (-decade.log10()).max(0.0).round() as usize;
    let end = highest * 1.02;
    let ticks = (0..).map(|i| f64::from(i) * step).take_while(|&tick| tick <= end);
    (ticks.map(|tick| (tick, format!("{tick:.decimals$}"))).collect(), end)
}

fn rectangle(canvas: &Canvas<'_>, corners: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
    canvas.draw(&Rectangle::new(corners, colour.filled())).map_err(|e| Error::Plot(e.to_string()))
}

fn vertical(canvas: &Canvas<'_>, x: i32, from: i32, to: i32, style: ShapeStyle) -> Result<()> {
    canvas.draw(&PathElement::new(vec![(x, from), (x, to)], style)).map_err(|e| Error::Plot(e.to_string()))
}

/// Writes text whose top is at `y`.
fn text(canvas: &Canvas<'_>, text: &str, at: (i32, i32), size: i32, colour: RGBColor, h: HPos) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&colour).pos(Pos::new(h, VPos::Top));
    canvas.draw_text(text, &style, at).map_err(|e| Error::Plot(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        for (highest, expected) in [
            (117.0, "0 20 40 60 80 100"),
            (40.0, "0 10 20 30 40"),
            (9.99, "0 2 4 6 8 10"),
            (0.7, "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7"),
            (434.0, "0 100 200 300 400"),
            (f64::NAN, "0.0 0.2 0.4 0.6 0.8 1.0"),
        ] {
            let (ticks, end) = axis(highest);
            assert!(highest.is_nan() || highest <= end);
            let labels: Vec<_> = ticks.iter().map(|(_, label)| label.as_str()).collect();
            assert_eq!(labels.join(" "), expected);
            assert!(ticks.iter().all(|(tick, _)| *tick <= end));
        }
    }

    #[test]
    fn an_empty_report_is_an_error() {
        assert!(bars(&Report::new("Nothing", Vec::new())).is_err());
    }
}
