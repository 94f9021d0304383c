//! How training went: values over epochs.

use super::chart::{self, Area, Center, Frame, Left, Scale};
use super::colour::{INK, SERIES};
use crate::error::{Error, Result};

/// A curve: its name, and its points (epoch, value) from left to right. Where a value is not finite (on a logarithmic
/// axis: not above 0), the curve has a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Epoch and value.
    pub points: Vec<(f64, f64)>,
}

/// Curves that share their axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What the values are: `loss`, say.
    pub name: String,
    /// The curves, at most six in colours of their own.
    pub series: Vec<Series>,
    /// Whether equal factors have equal distances.
    pub log: bool,
}

/// Panels of a row.
const COLUMNS: i32 = 3;

/// Pixels of a panel with all around it, and of the title.
const WIDTH: i32 = 460;
const HEIGHT: i32 = 340;
const TITLE: i32 = 44;

/// Panels in rows of three below a title, over a common kind of axis (`epoch`), as SVG.
///
/// ```
/// use tilewise_model::picture::{Panel, Series, curves};
/// let loss = Series { name: "training".into(), points: vec![(1.0, 2.3), (2.0, 0.7), (3.0, 0.4)] };
/// let svg = curves("digits", "epoch", &[Panel { name: "loss".into(), series: vec![loss], log: true }])?;
/// assert!(svg.starts_with("<svg"));
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if there is no panel, [`Error::Draw`].
pub fn curves(title: &str, axis: &str, panels: &[Panel]) -> Result<String> {
    let count = i32::try_from(panels.len()).ok().filter(|count| (1..=64).contains(count));
    let count = count.ok_or_else(|| Error::invalid("curves: panels", "1 to 64", panels.len()))?;
    let rows = (count + COLUMNS - 1) / COLUMNS;
    chart::svg((count.min(COLUMNS) * WIDTH, TITLE + rows * HEIGHT), |area| {
        chart::text(area, title, (24, 26), 20, INK, Left)?;
        let corner = |i| (i % COLUMNS * WIDTH, TITLE + i / COLUMNS * HEIGHT);
        panels.iter().zip((0..).map(corner)).try_for_each(|(panel, corner)| draw(area, panel, axis, corner))
    })
}

fn draw(area: &Area<'_>, panel: &Panel, axis: &str, (x, y): (i32, i32)) -> Result<()> {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let frame = Frame {
        area,
        left: x + 68,
        right: x + WIDTH - 24,
        top: y + 44,
        bottom: y + HEIGHT - 56,
        x: Scale::new(points().map(|point| point.0), false),
        y: Scale::new(points().map(|point| point.1), panel.log),
    };
    let name = if panel.log { format!("{} (log)", panel.name) } else { panel.name.clone() };
    chart::text(area, &name, (frame.left, y + 10), 16, INK, Left)?;
    frame.axes(axis)?;
    let mut legend = frame.left;
    for (series, colour) in panel.series.iter().zip(SERIES.into_iter().cycle()) {
        chart::rectangle(area, [(legend, y + 27), (legend + 14, y + 30)], colour)?;
        chart::text(area, &series.name, (legend + 20, y + 29), 13, INK, Left)?;
        legend += 36 + 7 * i32::try_from(series.name.chars().count()).unwrap_or(0);
        let place = |&(epoch, value): &(f64, f64)| frame.column(epoch).zip(frame.row(value));
        for run in series.points.split(|point| place(point).is_none()) {
            let places: Vec<_> = run.iter().filter_map(place).collect();
            match places[..] {
                [] => {}
                // A line of one point would not be seen.
                [(x, y)] => chart::rectangle(area, [(x - 2, y - 2), (x + 2, y + 2)], colour)?,
                _ => chart::path(area, places, colour, 2)?,
            }
        }
    }
    if points().next().is_none() {
        let middle = ((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2);
        chart::text(area, "no values", middle, 14, INK, Center)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        Panel { name: "loss".into(), series: vec![Series { name: "a<b".into(), points }], log: true }
    }

    #[test]
    fn gaps_split_a_curve_and_names_are_escaped() {
        let nan = f64::NAN;
        let svg =
            curves("t", "epoch", &[panel(vec![(1.0, 1.0), (2.0, 0.5), (3.0, nan), (4.0, 0.2), (5.0, 0.1)])])
                .unwrap();
        let lines = svg.matches("stroke-width=\"2\"").count();
        assert_eq!(lines, 2, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
    }

    #[test]
    fn few_points_and_none_are_drawn() {
        for points in [vec![], vec![(1.0, 2.0)], vec![(1.0, f64::NAN)], vec![(1.0, 0.0), (2.0, 0.0)]] {
            assert!(curves("", "epoch", &[panel(points)]).is_ok());
        }
        assert!(curves("", "epoch", &[]).is_err());
    }
}
