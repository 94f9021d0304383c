//! Axes and marks, drawn as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::colour::{Colour, INK, LINES, MUTED, PAPER};
use crate::error::{Error, Result};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where text stands around its point: its left end there, its middle, its right end.
pub(super) use HPos::{Center, Left, Right};

/// A picture of `width` x `height` pixels as SVG.
pub(super) fn svg((width, height): (i32, i32), draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width.unsigned_abs(), height.unsigned_abs()))
            .into_drawing_area();
        rectangle(&area, [(0, 0), (width, height)], PAPER)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(text)
}

pub(super) fn rectangle(area: &Area<'_>, corners: [(i32, i32); 2], colour: Colour) -> Result<()> {
    area.draw(&Rectangle::new(corners, rgb(colour).filled())).map_err(failed)
}

/// A rectangle through which what lies below shows.
pub(super) fn pane(area: &Area<'_>, corners: [(i32, i32); 2], colour: Colour, cover: f64) -> Result<()> {
    area.draw(&Rectangle::new(corners, rgb(colour).mix(cover).filled())).map_err(failed)
}

pub(super) fn path(area: &Area<'_>, points: Vec<(i32, i32)>, colour: Colour, width: u32) -> Result<()> {
    area.draw(&PathElement::new(points, rgb(colour).stroke_width(width))).map_err(failed)
}

/// Text whose vertical middle is at `at`.
pub(super) fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: Colour,
    h: HPos,
) -> Result<()> {
    let (font, colour) = (("sans-serif", size).into_font(), rgb(colour));
    let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, VPos::Center));
    area.draw_text(text, &style, at).map_err(failed)
}

fn rgb([r, g, b]: Colour) -> RGBColor {
    RGBColor(r, g, b)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Draw(error.to_string())
}

/// What an axis shows, from end to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// Of these values and a little more; those that are not finite (of a logarithmic axis: nor above 0) do not count.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && (!log || *value > 0.0))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let scale = |low, high| Scale { low, high, log };
        match (low <= high, log) {
            (false, false) => scale(0.0, 1.0),
            (false, true) => scale(0.1, 1.0),
            (true, true) => scale(low / 1.2, high * 1.2),
            // Of a single value: half as much around it.
            (true, false) if low == high => {
                scale(low - 0.5 * low.abs().max(1e-3), high + 0.5 * high.abs().max(1e-3))
            }
            (true, false) => scale(low - 0.04 * (high - low), high + 0.04 * (high - low)),
        }
    }

    /// From `low` to `high` exactly.
    pub(super) fn exact(low: f64, high: f64) -> Self {
        Scale { low, high, log: false }
    }

    /// Where a value lies: 0 at the lower end, 1 at the upper; nowhere, if it cannot be shown.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.is_finite().then_some(place)
    }

    /// Round values within, about five, with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        if self.log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        let decade = 10f64.powf((span / 4.0).log10().floor());
        let step = [5.0, 2.0, 1.0].map(|m| m * decade).into_iter().find(|step| span / step >= 4.0);
        let step = step.unwrap_or(decade);
        let decimals = (-step.log10()).ceil().max(0.0) as usize;
        let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
        if !(last - first < 100.0 && decimals < 20) {
            // A span too small beside its values to be divided.
            return Vec::new();
        }
        (0..=(last - first) as i32)
            .map(|i| (first + f64::from(i)) * step)
            // Not -0.
            .map(|tick| (tick, format!("{:.decimals$}", tick + 0.0)))
            .collect()
    }

    fn log_ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10();
        let multiples: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().floor() as i32);
        let all = (first..=last).flat_map(|exponent| multiples.iter().map(move |m| m * 10f64.powi(exponent)));
        let within = all.filter(|tick| (self.low..=self.high).contains(tick));
        within.map(|tick| (tick, if tick < 1e-3 { format!("{tick:e}") } else { format!("{tick}") })).collect()
    }
}

/// The part of a picture that has axes: their scales, and where they lie.
pub(super) struct Frame<'a, 'b> {
    pub(super) area: &'a Area<'b>,
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame<'_, '_> {
    /// Grid lines and labels of both axes, and the name of the lower one.
    pub(super) fn axes(&self, name: &str) -> Result<()> {
        for (tick, label) in self.y.ticks() {
            let Some(y) = self.row(tick) else { continue };
            path(self.area, vec![(self.left, y), (self.right, y)], LINES, 1)?;
            text(self.area, &label, (self.left - 8, y), 13, MUTED, Right)?;
        }
        for (tick, label) in self.x.ticks() {
            let Some(x) = self.column(tick) else { continue };
            path(self.area, vec![(x, self.bottom), (x, self.bottom + 4)], MUTED, 1)?;
            text(self.area, &label, (x, self.bottom + 14), 13, MUTED, Center)?;
        }
        path(self.area, vec![(self.left, self.bottom), (self.right, self.bottom)], MUTED, 1)?;
        text(self.area, name, ((self.left + self.right) / 2, self.bottom + 34), 14, INK, Center)
    }

    /// The pixel column of a value.
    pub(super) fn column(&self, value: f64) -> Option<i32> {
        let width = f64::from(self.right - self.left);
        Some(self.left + (self.x.place(value)? * width).round() as i32)
    }

    /// The pixel row of a value.
    pub(super) fn row(&self, value: f64) -> Option<i32> {
        let height = f64::from(self.bottom - self.top);
        Some(self.bottom - (self.y.place(value)? * height).round() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale) -> String {
        scale.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(labels(Scale::exact(0.0, 117.0)), "0 20 40 60 80 100");
        assert_eq!(labels(Scale::exact(0.91, 0.994)), "0.92 0.94 0.96 0.98");
        assert_eq!(labels(Scale::exact(-1.0, 1.0)), "-1.0 -0.5 0.0 0.5 1.0");
        assert_eq!(labels(Scale::new([0.0123, 2.3].into_iter(), true)), "0.02 0.05 0.1 0.2 0.5 1 2");
        assert_eq!(labels(Scale::new([1e-6, 1.0].into_iter(), true)), "1e-6 1e-5 1e-4 0.001 0.01 0.1 1");
    }

    #[test]
    fn what_cannot_be_shown_has_no_place() {
        let log = Scale::new([f64::NAN, -1.0, 0.0, 1.0, 100.0].into_iter(), true);
        assert!(log.place(0.0).is_none() && log.place(-1.0).is_none() && log.place(f64::NAN).is_none());
        assert!((log.place(10.0).unwrap() - 0.5).abs() < 1e-9);
        assert!(Scale::new(std::iter::empty(), false).place(f64::INFINITY).is_none());
        for values in [vec![], vec![3.0], vec![0.0, 0.0], vec![1e300, -1e300], vec![1.0, 1.0 + f64::EPSILON]]
        {
            for log in [false, true] {
                assert!(Scale::new(values.iter().copied(), log).ticks().len() < 100);
            }
        }
    }
}
