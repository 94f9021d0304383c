//! A confusion matrix as a picture.

use super::chart::{self, Center, Left, Right};
use super::colour::{INK, MUTED, PAPER, SERIES, tint};
use crate::error::{Error, Result};
use crate::metrics::ConfusionMatrix;

/// More classes would not be read.
const MOST: usize = 100;
/// A cell; smaller for many classes.
const CELL: i32 = 44;

/// A row for each true class, a column for each predicted one: counts, darker the larger their share of the row; as SVG.
///
/// ```
/// use tilewise_model::metrics::ConfusionMatrix;
/// let matrix = ConfusionMatrix::of(2, &[0, 0, 1], &[0, 1, 1])?;
/// let svg = tilewise_model::picture::confusion("cats and dogs", &matrix, &["cat", "dog"].map(String::from))?;
/// assert!(svg.contains("dog"));
/// # Ok::<(), tilewise_model::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if there are more than 100 classes or it is not one name for each; [`Error::Draw`].
pub fn confusion(title: &str, matrix: &ConfusionMatrix, names: &[String]) -> Result<String> {
    let classes = matrix.classes();
    if classes > MOST {
        return Err(Error::invalid("confusion matrix: classes", format!("at most {MOST}"), classes));
    }
    if names.len() != classes {
        return Err(Error::invalid("confusion matrix: names", classes, names.len()));
    }
    let count = classes as i32;
    let cell = (1200 / count).min(CELL);
    let font = (cell / 3).min(14);
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
    // Above the columns stand the names where they are short enough, else the numbers of the classes.
    let short = longest * font * 3 / 5 <= cell;
    let rows: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| if short { name.clone() } else { format!("{name} {i}") })
        .collect();
    let left = 56 + (longest * font * 3 / 5).clamp(20, 220);
    let top = 104;
    let (width, height) = (left + count * cell + 96, top + count * cell + 28);
    chart::svg((width.max(420), height), |area| {
        chart::text(area, title, (24, 26), 20, INK, Left)?;
        let accuracy = format!("accuracy {:.2}% of {}", 100.0 * matrix.accuracy(), matrix.total());
        chart::text(area, &accuracy, (24, 52), 14, MUTED, Left)?;
        chart::text(area, "true", (left - 8, top - 16), 13, MUTED, Right)?;
        chart::text(area, "predicted", (left, top - 34), 13, MUTED, Left)?;
        chart::text(area, "recall", (left + count * cell + 12, top - 16), 13, MUTED, Left)?;
        for (truth, (name, row)) in names.iter().zip(&rows).enumerate() {
            let y = top + truth as i32 * cell;
            let middle = y + cell / 2;
            chart::text(area, row, (left - 8, middle), font, INK, Right)?;
            let column = left + truth as i32 * cell + cell / 2;
            let above = if short { name.clone() } else { truth.to_string() };
            chart::text(area, &above, (column, top - 16), font, INK, Center)?;
            for predicted in 0..classes {
                let x = left + predicted as i32 * cell;
                let number = matrix.count(truth, predicted);
                let share = number as f64 / matrix.support(truth) as f64;
                // The root, so that few mistakes among many hits are seen.
                let colour = tint(SERIES[0], if share > 0.0 { 0.06 + 0.94 * share.sqrt() } else { 0.0 });
                chart::rectangle(area, [(x, y), (x + cell - 1, y + cell - 1)], colour)?;
                if number > 0 {
                    let ink = if share > 0.3 { PAPER } else { INK };
                    chart::text(area, &number.to_string(), (x + cell / 2, middle), font, ink, Center)?;
                }
            }
            let recall = matrix.recall(truth);
            let recall = if recall.is_nan() { "-".to_owned() } else { format!("{:.1}%", 100.0 * recall) };
            chart::text(area, &recall, (left + count * cell + 12, middle), font, MUTED, Left)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_in_their_cells() {
        let names = ["a".to_owned(), "<b>".to_owned(), "c".to_owned()];
        let matrix = ConfusionMatrix::of(3, &[0, 0, 0, 1], &[0, 0, 1, 1]).unwrap();
        let svg = confusion("t", &matrix, &names).unwrap();
        assert!(svg.contains("accuracy 75.00% of 4") && svg.contains("66.7%") && svg.contains("&lt;b&gt;"));
        assert!(confusion("t", &matrix, &names[..2]).is_err());
        let many = ConfusionMatrix::new(101).unwrap();
        assert!(confusion("t", &many, &vec![String::new(); 101]).is_err());
        assert!(confusion("t", &ConfusionMatrix::new(1).unwrap(), &[String::new()]).is_ok());
    }
}
