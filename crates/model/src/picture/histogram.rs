//! How the losses of normal and abnormal samples are distributed, and what a threshold makes of them.

use super::chart::{self, Center, Frame, Left, Right, Scale};
use super::colour::{FALSE, INK, MISSED, MUTED};
use crate::error::Result;

const WIDTH: i32 = 760;
const HEIGHT: i32 = 400;
/// Enough to see the shape of some hundred samples.
const BINS: usize = 48;

/// Losses of normal and of abnormal samples as shares of each kind, with a line at the threshold, as SVG. The highest 1%
/// of the losses is shown at the right edge, so that one wild loss does not squeeze all others; losses that are not
/// finite are left out.
///
/// ```
/// let svg = tilewise_model::picture::histogram("digits", &[0.1, 0.2, 0.2], &[0.5, 0.8], 0.3)?;
/// assert!(svg.contains("threshold 0.3"));
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Draw`](crate::Error::Draw).
pub fn histogram(title: &str, normal: &[f32], abnormal: &[f32], threshold: f64) -> Result<String> {
    let finite = |losses: &[f32]| -> Vec<f64> {
        let mut losses: Vec<f64> =
            losses.iter().filter(|loss| loss.is_finite()).map(|&loss| f64::from(loss)).collect();
        losses.sort_by(f64::total_cmp);
        losses
    };
    let [normal, abnormal] = [normal, abnormal].map(finite);
    let all = || normal.iter().chain(&abnormal).copied();
    let low = all().fold(f64::INFINITY, f64::min).min(threshold);
    // The 99th percentile of each, and what the threshold needs.
    let most = |losses: &[f64]| losses.get(losses.len().saturating_sub(1) * 99 / 100).copied();
    let high = [most(&normal), most(&abnormal), Some(threshold)].into_iter().flatten();
    let high = high.filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
    let x = if low.is_finite() && low < high {
        Scale::exact(low, high + 0.04 * (high - low))
    } else {
        Scale::new(all().chain([threshold]), false)
    };
    let shares = [&normal, &abnormal].map(|losses| shares(losses, x));
    let highest = shares.iter().flatten().copied().fold(0.0, f64::max);
    chart::svg((WIDTH, HEIGHT), |area| {
        let y = Scale::exact(0.0, if highest > 0.0 { 1.06 * highest } else { 1.0 });
        let frame = Frame { area, left: 68, right: WIDTH - 24, top: 96, bottom: HEIGHT - 56, x, y };
        chart::text(area, title, (24, 26), 20, INK, Left)?;
        chart::text(area, "share of samples (%)", (frame.right, 55), 13, MUTED, Right)?;
        frame.axes("loss")?;
        let width = f64::from(frame.right - frame.left) / BINS as f64;
        let edge = |bin: usize| frame.left + (bin as f64 * width).round() as i32;
        let mut legend = frame.left;
        let kinds = [("normal", normal.len(), MISSED), ("abnormal", abnormal.len(), FALSE)];
        for ((name, count, colour), shares) in kinds.into_iter().zip(&shares) {
            for (bin, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                let top = frame.row(share).unwrap_or(frame.bottom);
                chart::pane(area, [(edge(bin), top), (edge(bin + 1), frame.bottom)], colour, 0.6)?;
            }
            chart::pane(area, [(legend, 49), (legend + 12, 61)], colour, 0.6)?;
            chart::text(area, &format!("{name} ({count})"), (legend + 20, 55), 14, INK, Left)?;
            legend += 160;
        }
        let Some(line) = frame.column(threshold) else { return Ok(()) };
        chart::path(area, vec![(line, frame.top), (line, frame.bottom)], INK, 2)?;
        let anchor = match (line - frame.left, frame.right - line) {
            (0..90, _) => Left,
            (_, 0..90) => Right,
            _ => Center,
        };
        chart::text(area, &format!("threshold {threshold:.4}"), (line, frame.top - 12), 14, INK, anchor)
    })
}

/// The percentage of losses in each bin; those beyond the right edge are in the last.
fn shares(losses: &[f64], x: Scale) -> Vec<f64> {
    let mut shares = vec![0.0; BINS];
    for place in losses.iter().filter_map(|&loss| x.place(loss)) {
        // `as` saturates.
        shares[((place * BINS as f64) as usize).min(BINS - 1)] += 100.0 / losses.len() as f64;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_in_a_bin() {
        let losses: Vec<f64> = (0..100).map(|i| f64::from(i) / 10.0).collect();
        let shares = shares(&losses, Scale::exact(1.0, 5.0));
        assert!((shares.iter().sum::<f64>() - 100.0).abs() < 1e-9);
        assert!(shares[0] > 10.0 && shares[BINS - 1] > 49.0);
    }

    #[test]
    fn odd_losses_are_drawn() {
        for (normal, abnormal, threshold) in [
            (vec![], vec![], 0.0),
            (vec![1.0], vec![], 1.0),
            (vec![f32::NAN, f32::INFINITY, 1.0], vec![2.0], 1.5),
            (vec![1.0; 5], vec![1.0; 5], f64::NAN),
            (vec![1.0; 5], vec![2.0; 5], f64::INFINITY),
        ] {
            assert!(histogram("t", &normal, &abnormal, threshold).is_ok());
        }
    }
}
